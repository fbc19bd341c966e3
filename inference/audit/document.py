"""Documents: frozen dataclasses whose JSON is strict in both directions.

A field's annotation says how its value looks in JSON: digests and signatures are `0x` lowercase
hex, amounts decimal text, counts integers, addresses EIP-55 text. Values are checked at birth,
so a document that exists can be encoded; JSON with a field more, a field less or another spelling
of the same value is refused, so that one document has one text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, ClassVar, Protocol, Self, TypeAlias, get_type_hints

from eth_utils.address import to_checksum_address

from inference.errors import NodeError
from registry.signing.canonical import MAX_INTEGER, JsonObject, JsonValue, encode

# Decimal digits of the largest uint256: bounds the work of int().
_AMOUNT_DIGITS = 78


class FormatError(NodeError):
    """A document is not of the format it claims. `path` names the field, or is empty."""

    exit_code = 3

    def __init__(self, path: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {rule}" if path else rule, hint=hint)
        self.path = path
        self.rule = rule


class Kind(Protocol):
    """How one field's value looks in Python and in JSON. Both raise `FormatError`."""

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON value; refuses a Python value that does not fit."""

    def load(self, value: object, path: str) -> object:
        """Return the Python value; refuses every other spelling."""


@dataclass(frozen=True)
class TextKind:
    """Text of at most `limit` characters that matches `pattern` as a whole."""

    pattern: str
    limit: int = 200

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the text."""
        if not isinstance(value, str):
            raise FormatError(path, f"{type(value).__name__} where text belongs")
        if len(value) > self.limit:
            raise FormatError(path, f"{len(value)} characters, more than {self.limit}")
        if not self._compiled.fullmatch(value):
            raise FormatError(path, f"{value!r:.80} does not match {self.pattern}")
        return value

    def load(self, value: object, path: str) -> object:
        """Return the text."""
        return self.dump(value, path)


@dataclass(frozen=True)
class CountKind:
    """An integer from 0 to `limit`, which is 2^53 - 1 unless it is said."""

    limit: int = MAX_INTEGER

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the integer."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise FormatError(path, f"{value!r:.80} is not an integer")
        if not 0 <= value <= self.limit:
            most = "2^53 - 1" if self.limit == MAX_INTEGER else str(self.limit)
            raise FormatError(path, f"{value!r:.80} is not between 0 and {most}")
        return value

    def load(self, value: object, path: str) -> object:
        """Return the integer."""
        return self.dump(value, path)


class AmountKind:
    """An amount in atomic units, below 2^256: `int` in Python, decimal text in JSON."""

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the decimal text."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 256:
            raise FormatError(path, f"{value!r:.80} is not an amount")
        return str(value)

    def load(self, value: object, path: str) -> object:
        """Return the integer."""
        if (
            not isinstance(value, str)
            or len(value) > _AMOUNT_DIGITS
            or not re.fullmatch(r"0|[1-9][0-9]*", value, re.ASCII)
        ):
            raise FormatError(path, f"{value!r:.80} is not an amount in decimal text")
        return int(value)


@dataclass(frozen=True)
class BytesKind:
    """Exactly `size` bytes: `bytes` in Python, 0x lowercase hex in JSON."""

    size: int

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the hex text."""
        if not isinstance(value, bytes) or len(value) != self.size:
            raise FormatError(path, f"{value!r:.80} is not {self.size} bytes")
        return "0x" + value.hex()

    def load(self, value: object, path: str) -> bytes:
        """Return the bytes."""
        if not isinstance(value, str) or len(value) != 2 + 2 * self.size:
            raise FormatError(path, f"{value!r:.80} is not 0x and {2 * self.size} hex digits")
        if not re.fullmatch(r"0x[0-9a-f]*", value, re.ASCII):
            raise FormatError(path, f"{value!r:.80} is not lowercase hex")
        return bytes.fromhex(value[2:])


class AddressKind:
    """An EIP-55 checksum address."""

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the address."""
        if not isinstance(value, str) or not _is_address(value):
            raise FormatError(path, f"{value!r:.80} is not an EIP-55 address")
        return value

    def load(self, value: object, path: str) -> object:
        """Return the address."""
        return self.dump(value, path)


Digest: TypeAlias = Annotated[bytes, BytesKind(32)]
Signature: TypeAlias = Annotated[bytes, BytesKind(65)]
Address: TypeAlias = Annotated[str, AddressKind()]
Amount: TypeAlias = Annotated[int, AmountKind()]
Count: TypeAlias = Annotated[int, CountKind()]
# Printable ASCII without control characters: names are shown in terminals.
Text: TypeAlias = Annotated[str, TextKind(r"[ -~]*")]
# Free text, as errors write it: anything but what steers terminals, lines or reading direction.
_REMARK = TextKind(r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]*", limit=1000)
Remark: TypeAlias = Annotated[str, _REMARK]
Decimal: TypeAlias = Annotated[str, TextKind(r"(0|[1-9][0-9]*)(\.[0-9]*[1-9])?", limit=32)]

ZERO_DIGEST = bytes(32)
ZERO_ADDRESS = "0x" + "0" * 40


@dataclass(frozen=True)
class Document:
    """Base of strict documents. A subclass with `FORMAT` carries it as its `format` field."""

    FORMAT: ClassVar[str] = ""
    # Field name → (JSON key, kind), filled from the annotations when a subclass is made.
    FIELDS: ClassVar[dict[str, tuple[str, Kind]]] = {}
    # What `to_json` copies; no annotation of an instance, so that it is no field.
    _json: ClassVar[dict[str, Any]]

    def __init_subclass__(cls) -> None:
        """Read the annotations once."""
        hints = get_type_hints(cls, include_extras=True)
        cls.FIELDS = {
            n: (_camel(n), _kind(h))
            for n, h in hints.items()
            if not n.isupper() and not n.startswith("_")
        }

    def __post_init__(self) -> None:
        """Refuse, with `FormatError`, values that could not be written; keep what they become."""
        result: JsonObject = {"format": self.FORMAT} if self.FORMAT else {}
        for name, (key, kind) in self.FIELDS.items():
            value = getattr(self, name)
            if value is None and isinstance(kind, OptionalKind):
                continue
            result[key] = kind.dump(value, key)
        # A receipt is signed, logged, stored and sent: its values are turned into JSON once.
        object.__setattr__(self, "_json", result)

    def to_json(self) -> JsonObject:
        """Return the JSON object, keys in camelCase."""
        return {key: _copy(value) for key, value in self._json.items()}

    @classmethod
    def from_json(cls, value: object, path: str = "") -> Self:
        """Read a decoded JSON object. Raises `FormatError` that names the field."""
        if not isinstance(value, Mapping):
            raise FormatError(path, f"{type(value).__name__} where an object belongs")
        if cls.FORMAT and value.get("format") != cls.FORMAT:
            raise FormatError(
                path, f"format {value.get('format')!r:.60} is not {cls.FORMAT}, the one known here"
            )
        keys = {key for key, _ in cls.FIELDS.values()} | ({"format"} if cls.FORMAT else set())
        odd = value.keys() ^ keys
        if odd and (odd := odd - (cls.may_lack() - value.keys())):
            first = min(map(str, odd))
            raise FormatError(
                path, f"field {first!r:.60} is {'unknown' if first in value else 'missing'}"
            )
        prefix = f"{path}." if path else ""
        loaded = {
            name: kind.load(value[key], prefix + key)
            for name, (key, kind) in cls.FIELDS.items()
            if key in value
        }
        return cls(**loaded)

    @classmethod
    def may_lack(cls) -> frozenset[str]:
        """Return the JSON keys that may be absent."""
        kinds = cls.FIELDS.values()
        return frozenset(key for key, kind in kinds if isinstance(kind, OptionalKind))

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self._json)


@dataclass(frozen=True)
class NestedKind:
    """A document inside a document."""

    document: type[Document]

    def check(self, value: object, path: str) -> Document:
        """Refuse anything but this very document."""
        if type(value) is not self.document:
            name = self.document.__name__
            raise FormatError(path, f"{type(value).__name__} where {name} belongs")
        return value

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON object, for the document around it to keep."""
        return self.check(value, path)._json

    def load(self, value: object, path: str) -> object:
        """Return the document."""
        return self.document.from_json(value, path)


@dataclass(frozen=True)
class ListKind:
    """A tuple of at most `limit` documents: a list in JSON."""

    document: type[Document]
    limit: int

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the list of JSON objects."""
        if not isinstance(value, tuple) or len(value) > self.limit:
            raise FormatError(path, f"not a tuple of at most {self.limit}")
        nested = NestedKind(self.document)
        return [nested.dump(item, f"{path}[{i}]") for i, item in enumerate(value)]

    def load(self, value: object, path: str) -> object:
        """Return the tuple of documents."""
        if not isinstance(value, list) or len(value) > self.limit:
            raise FormatError(path, f"not a list of at most {self.limit}")
        return tuple(self.document.from_json(item, f"{path}[{i}]") for i, item in enumerate(value))


@dataclass(frozen=True)
class OptionalKind:
    """What may be absent: None in Python, no key in JSON. The field's default is None."""

    kind: Kind

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON value of what is there."""
        return self.kind.dump(value, path)

    def load(self, value: object, path: str) -> object:
        """Return the value of what is there."""
        return self.kind.load(value, path)


def _copy(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def remark(text: str) -> str:
    """Return `text` as a `Remark` can hold it: cut to length, what it may not hold as `?`."""
    fits = re.compile(_REMARK.pattern)
    return "".join(c if fits.fullmatch(c) else "?" for c in text[: _REMARK.limit])


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _kind(hint: Any) -> Kind:
    if hasattr(hint, "__metadata__"):
        kind: Kind = hint.__metadata__[0]
        return kind
    return NestedKind(hint)


# Checksums cost a keccak each and the same few addresses come again and again.
@lru_cache(maxsize=4096)
def _is_address(value: str) -> bool:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", value, re.ASCII):
        return False
    return bool(to_checksum_address(value) == value)
