"""Kinds: how one value of a document looks in Python and in JSON, one spelling each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from json.encoder import encode_basestring
from typing import Final, Protocol

from eth_utils.address import to_checksum_address

from inference.errors import NodeError
from registry.signing.canonical import MAX_INTEGER, JsonValue, encode

# Decimal digits of the largest uint256: bounds the work of int().
_AMOUNT_DIGITS = 78


# A text between quotes, as RFC 8785 asks for; written in C.
quoted: Final = encode_basestring


class FormatError(NodeError):
    """A document is not of the format it claims. `path` names the field, or is empty."""

    exit_code = 3

    def __init__(self, path: str, rule: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {rule}" if path else rule, hint=hint)
        self.path = path
        self.rule = rule


class Kind(Protocol):
    """How one field's value looks in Python and in JSON. Both raise `FormatError`.

    A kind may have `text` beside, like `dump`, for the canonical text of what that returns.
    """

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON value; refuses a Python value that does not fit."""

    def load(self, value: object, path: str) -> object:
        """Return the Python value; refuses every other spelling."""


def text_of(kind: Kind) -> Callable[[object, str], str]:
    """Return what makes the canonical text of a value of a kind."""

    def encoded(value: object, path: str) -> str:
        return encode(kind.dump(value, path)).decode()

    # One who inherits `text` and dumps in its own way has no text of its own.
    first = next(c for c in type(kind).__mro__ if vars(c).keys() & {"text", "dump"})
    own: Callable[[object, str], str] = getattr(kind, "text", encoded)
    return own if "text" in vars(first) else encoded


@dataclass(frozen=True)
class TextKind:
    """Text of at most `limit` characters that matches `pattern` as a whole."""

    pattern: str
    limit: int = 200

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    def text(self, value: object, path: str) -> str:
        """Return the text between quotes."""
        return quoted(self.dump(value, path))

    def dump(self, value: object, path: str) -> str:
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

    def text(self, value: object, path: str) -> str:
        """Return its digits."""
        return str(self.dump(value, path))

    def dump(self, value: object, path: str) -> int:
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

    def text(self, value: object, path: str) -> str:
        """Return the digits between quotes."""
        return f'"{self.dump(value, path)}"'

    def dump(self, value: object, path: str) -> str:
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

    def text(self, value: object, path: str) -> str:
        """Return the hex text between quotes."""
        return f'"{self.dump(value, path)}"'

    def dump(self, value: object, path: str) -> str:
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

    def text(self, value: object, path: str) -> str:
        """Return the address between quotes."""
        return f'"{self.dump(value, path)}"'

    def dump(self, value: object, path: str) -> str:
        """Return the address."""
        if not isinstance(value, str) or not _is_address(value):
            raise FormatError(path, f"{value!r:.80} is not an EIP-55 address")
        return value

    def load(self, value: object, path: str) -> object:
        """Return the address."""
        return self.dump(value, path)


# Checksums cost a keccak each and the same few addresses come again and again.
@lru_cache(maxsize=4096)
def _is_address(value: str) -> bool:
    if not re.fullmatch(r"0x[0-9a-fA-F]{40}", value, re.ASCII):
        return False
    return bool(to_checksum_address(value) == value)
