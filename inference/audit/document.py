"""Documents: frozen dataclasses whose JSON is strict in both directions.

A document becomes its canonical text when it is made, of the texts of its fields: so a receipt is
signed, logged, stored and sent without being encoded again, and what many receipts have in common
is encoded once. `tests/properties` compares it with what encodes any JSON.

A field's annotation says how its value looks in JSON: digests and signatures are `0x` lowercase
hex, amounts decimal text, counts integers, addresses EIP-55 text. Values are checked at birth,
so a document that exists can be encoded; JSON with a field more, a field less or another spelling
of the same value is refused, so that one document has one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, TypeAlias, get_type_hints

from inference.audit.kinds import (
    AddressKind,
    AmountKind,
    BytesKind,
    CountKind,
    FormatError,
    Kind,
    TextKind,
    quoted,
    text_of,
)
from registry.signing.canonical import JsonObject, JsonValue

__all__ = (
    "Address",
    "AddressKind",
    "Amount",
    "AmountKind",
    "BytesKind",
    "Count",
    "CountKind",
    "Decimal",
    "Digest",
    "Document",
    "FormatError",
    "Kind",
    "ListKind",
    "NestedKind",
    "OptionalKind",
    "Remark",
    "Signature",
    "Text",
    "TextKind",
    "remark",
)

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
    # In the order of the keys: what stands before a value, its field's name and key, and what
    # makes its text.
    _ORDER: ClassVar[tuple[tuple[str, str, str, Callable[[object, str], str]], ...]] = ()
    # The canonical text; no annotation of an instance, so that it is no field.
    _text: ClassVar[str]

    def __init_subclass__(cls) -> None:
        """Read the annotations once."""
        hints = get_type_hints(cls, include_extras=True)
        cls.FIELDS = {
            n: (_camel(n), _kind(h))
            for n, h in hints.items()
            if not n.isupper() and not n.startswith("_")
        }
        listed = [(key, name, kind) for name, (key, kind) in cls.FIELDS.items()]
        if cls.FORMAT:
            listed.append(("format", "FORMAT", TextKind(r".*")))
        # Keys are ASCII: whichever way they are compared, this is their canonical order.
        cls._ORDER = tuple(
            (f"{quoted(key)}:", name, key, text_of(kind))
            for key, name, kind in sorted(listed, key=_key)
        )

    def __post_init__(self) -> None:
        """Refuse, with `FormatError`, values that could not be written; keep what they become."""
        members = [
            before + text
            for before, name, key, make in self._ORDER
            if (text := make(getattr(self, name), key))
        ]
        object.__setattr__(self, "_text", f"{{{','.join(members)}}}")

    def to_json(self) -> JsonObject:
        """Return the JSON object, keys in camelCase."""
        result: JsonObject = {"format": self.FORMAT} if self.FORMAT else {}
        for name, (key, kind) in self.FIELDS.items():
            value = getattr(self, name)
            if value is not None or not isinstance(kind, OptionalKind):
                result[key] = kind.dump(value, key)
        return result

    @property
    def canonical(self) -> str:
        """The canonical text."""
        return self._text

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
        return self._text.encode()


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

    def text(self, value: object, path: str) -> str:
        """Return the document's text."""
        return self.check(value, path).canonical

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON object."""
        return self.check(value, path).to_json()

    def load(self, value: object, path: str) -> object:
        """Return the document."""
        return self.document.from_json(value, path)


@dataclass(frozen=True)
class ListKind:
    """A tuple of at most `limit` documents: a list in JSON."""

    document: type[Document]
    limit: int

    def text(self, value: object, path: str) -> str:
        """Return the list of their texts."""
        return f"[{','.join(document.canonical for document in self._check(value, path))}]"

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the list of JSON objects."""
        return [document.to_json() for document in self._check(value, path)]

    def _check(self, value: object, path: str) -> list[Document]:
        if not isinstance(value, tuple) or len(value) > self.limit:
            raise FormatError(path, f"not a tuple of at most {self.limit}")
        nested = NestedKind(self.document)
        return [nested.check(item, f"{path}[{i}]") for i, item in enumerate(value)]

    def load(self, value: object, path: str) -> object:
        """Return the tuple of documents."""
        if not isinstance(value, list) or len(value) > self.limit:
            raise FormatError(path, f"not a list of at most {self.limit}")
        return tuple(self.document.from_json(item, f"{path}[{i}]") for i, item in enumerate(value))


@dataclass(frozen=True)
class OptionalKind:
    """What may be absent: None in Python, no key in JSON. The field's default is None."""

    kind: Kind

    def text(self, value: object, path: str) -> str:
        """Return the text of what is there, nothing for what is not."""
        return "" if value is None else text_of(self.kind)(value, path)

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON value of what is there."""
        return self.kind.dump(value, path)

    def load(self, value: object, path: str) -> object:
        """Return the value of what is there."""
        return self.kind.load(value, path)


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


def _key(listed: tuple[str, str, Kind]) -> str:
    return listed[0]
