"""Strict reading of a decoded JSON object: every field asked for by name, the rest refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from registry.errors import CidError, ManifestError
from registry.ipfs.cid import Cid
from registry.signing.canonical import JsonValue

_DIGEST: Final = re.compile(r"0x[0-9a-f]{64}")


class Fields:
    """One JSON object being read. `where` names it in errors, such as `files[3]`.

    Every method raises `ManifestError` that names the field and what it should be.
    """

    def __init__(self, value: JsonValue, where: str) -> None:
        if not isinstance(value, dict):
            raise ManifestError(f"{where} is not an object")
        self._left: Final = dict(value)
        self._where: Final = where

    def text(self, name: str) -> str:
        """Take a string."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def optional_text(self, name: str) -> str | None:
        """Take a string, or return None where the field is absent."""
        return self.text(name) if name in self._left else None

    def integer(self, name: str) -> int:
        """Take an integer that is not negative."""
        value = self._take(name)
        if not isinstance(value, int) or value < 0:
            raise self._wrong(name, "an integer that is not negative")
        return value

    def digest(self, name: str) -> bytes:
        """Take 32 bytes, written as 0x and 64 lower-case hexadecimal digits."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a digest")
        return parse_digest(value, f"{self._where}.{name}")

    def digests(self, name: str) -> tuple[bytes, ...]:
        """Take a list of digests."""
        found = []
        for where, item in self.items(name):
            found.append(parse_digest(item if isinstance(item, str) else "", where))
        return tuple(found)

    def cid(self, name: str) -> Cid:
        """Take a CID."""
        value = self._take(name)
        try:
            return Cid.parse(value if isinstance(value, str) else "")
        except CidError as error:
            raise ManifestError(f"{self._where}.{name}: {error.message}") from error

    def items(self, name: str) -> list[tuple[str, JsonValue]]:
        """Take a list; each item comes with its name for errors."""
        value = self._take(name)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong(name, "a list")
        return [(f"{self._where}.{name}[{at}]", item) for at, item in enumerate(value)]

    def texts(self, name: str) -> dict[str, str]:
        """Take an object whose values are all strings."""
        value = self._take(name)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self._wrong(name, "an object of texts")
        return {key: str(item) for key, item in value.items()}

    def below(self, name: str) -> Fields:
        """Take an object, to be read in turn."""
        return Fields(self._take(name), f"{self._where}.{name}")

    def optional_below(self, name: str) -> Fields | None:
        """Take an object, to be read in turn, or return None where the field is absent."""
        return self.below(name) if name in self._left else None

    def end(self) -> None:
        """Refuse whatever was not asked for."""
        for name in sorted(self._left):
            raise ManifestError(f"{self._where} has an unknown field {name!r:.60}")

    def _take(self, name: str) -> JsonValue:
        if name not in self._left:
            raise ManifestError(f"{self._where} lacks {name}")
        value: JsonValue = self._left.pop(name)
        return value

    def _wrong(self, name: str, should: str) -> ManifestError:
        return ManifestError(f"{self._where}.{name} is not {should}")


def parse_digest(text: str, where: str) -> bytes:
    """Return the 32 bytes of `0x…`; raises `ManifestError` naming `where`."""
    if not _DIGEST.fullmatch(text):
        raise ManifestError(f"{where} is not a digest: 0x and 64 lower-case hexadecimal digits")
    return bytes.fromhex(text[2:])


def show_digest(digest: bytes) -> str:
    """Return the text of a digest."""
    return f"0x{digest.hex()}"
