"""Kinds of fields that few documents have: lists of values, and the bytes of a whole body."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from inference.audit.document import FormatError, Kind
from registry.signing.canonical import JsonValue

# A token id is 32 bits.
MAX_ID: Final = (1 << 32) - 1


@dataclass(frozen=True)
class ManyKind:
    """At most `limit` values of one kind: a tuple in Python, a list in JSON."""

    kind: Kind
    limit: int

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the list."""
        if not isinstance(value, tuple) or len(value) > self.limit:
            raise FormatError(path, f"not a tuple of at most {self.limit}")
        return [self.kind.dump(item, f"{path}[{i}]") for i, item in enumerate(value)]

    def load(self, value: object, path: str) -> object:
        """Return the tuple."""
        if not isinstance(value, list) or len(value) > self.limit:
            raise FormatError(path, f"not a list of at most {self.limit}")
        return tuple(self.kind.load(item, f"{path}[{i}]") for i, item in enumerate(value))


@dataclass(frozen=True)
class Base64Kind:
    """At most `limit` bytes, such as a request's body: base64 text with padding in JSON."""

    limit: int

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the text."""
        if not isinstance(value, bytes) or len(value) > self.limit:
            raise FormatError(path, f"not bytes, at most {self.limit} of them")
        return base64.b64encode(value).decode()

    def load(self, value: object, path: str) -> bytes:
        """Return the bytes; refuses every other spelling of them."""
        if not isinstance(value, str) or len(value) > self.characters:
            raise FormatError(path, f"not base64 of at most {self.limit} bytes")
        try:
            data = base64.b64decode(value.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise FormatError(path, "not base64") from error
        if self.dump(data, path) != value:
            raise FormatError(path, "not the base64 of its bytes: unused bits are set")
        return data

    @property
    def characters(self) -> int:
        """How long the text may be."""
        return (self.limit + 2) // 3 * 4


@dataclass(frozen=True)
class BlobKind:
    """At most `limit` bytes: `bytes` in Python, 0x lowercase hex in JSON."""

    limit: int

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the hex text."""
        if not isinstance(value, bytes) or len(value) > self.limit:
            raise FormatError(path, f"not at most {self.limit} bytes")
        return "0x" + value.hex()

    def load(self, value: object, path: str) -> bytes:
        """Return the bytes."""
        if not isinstance(value, str) or len(value) > 2 + 2 * self.limit:
            raise FormatError(path, f"not 0x and at most {2 * self.limit} hex digits")
        if not re.fullmatch(r"0x([0-9a-f]{2})*", value, re.ASCII):
            raise FormatError(path, "not lowercase hex")
        return bytes.fromhex(value[2:])


@dataclass(frozen=True)
class IdsKind:
    """At most `limit` token ids in order: a tuple of integers in Python, a list in JSON.

    There may be a million: one by one, by `ManyKind`, that takes seconds.
    """

    limit: int

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the list."""
        if not isinstance(value, tuple) or len(value) > self.limit:
            raise FormatError(path, f"not at most {self.limit} token ids")
        for id in value:
            if isinstance(id, bool) or not isinstance(id, int) or not 0 <= id < MAX_ID:
                raise FormatError(path, f"{id!r:.40} is not a token id")
        return list(value)

    def load(self, value: object, path: str) -> object:
        """Return the tuple."""
        ids = tuple(value) if isinstance(value, list) else value
        self.dump(ids, path)
        return ids
