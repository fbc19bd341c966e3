"""CIDs: the names of IPFS blocks, restricted to the one form this product reads and writes.

CIDv1, base32 in lower case, SHA-256, codec `raw` or `dag-pb`. One digest and one codec have
exactly one text, so two texts that differ name two different blocks.
Source: https://github.com/multiformats/cid; multicodec table: 0x55 raw, 0x70 dag-pb, 0x12 sha2-256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from registry.errors import CidError

Codec: TypeAlias = Literal["raw", "dag-pb"]
RAW: Final = "raw"
DAG_PB: Final = "dag-pb"

DIGEST_BYTES: Final = 32
# sha2-256, 32 bytes: the multihash prefix of every digest here.
_MULTIHASH: Final = b"\x12\x20"
_PREFIXES: Final[dict[Codec, bytes]] = {
    "raw": b"\x01\x55" + _MULTIHASH,
    "dag-pb": b"\x01\x70" + _MULTIHASH,
}
_CODECS: Final[dict[bytes, Codec]] = {prefix: codec for codec, prefix in _PREFIXES.items()}
# Two version and codec bytes, two multihash bytes, the digest.
CID_BYTES: Final = 4 + DIGEST_BYTES
# "b" for base32, then 36 bytes at five bits a character.
_TEXT_LENGTH: Final = 59


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """The name of one block: how to read it (`codec`) and the SHA-256 of its bytes (`digest`)."""

    codec: Codec
    digest: bytes

    def __post_init__(self) -> None:
        if self.codec not in _PREFIXES:
            raise CidError(f"codec {self.codec!r:.40} is neither raw nor dag-pb")
        if len(self.digest) != DIGEST_BYTES:
            raise CidError(f"a digest of {len(self.digest)} bytes is not SHA-256")

    @classmethod
    def of_block(cls, codec: Codec, data: bytes | memoryview) -> Cid:
        """Return the CID of a block's bytes."""
        return cls(codec, hashlib.sha256(data).digest())

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Return the CID that `text` writes.

        Raises `CidError` for anything but the one accepted text: CIDv0, other bases, upper
        case, padding, other codecs, other hashes (the identity hash among them).
        """
        if text.startswith("Qm"):
            raise CidError(f"{text[:60]} is a CIDv0; this product uses CIDv1 only")
        if len(text) != _TEXT_LENGTH or text[0] != "b" or text != text.lower():
            raise CidError(f"{text[:60]!r} is not a CIDv1 in lower-case base32")
        try:
            data = base64.b32decode(text[1:].upper() + "======")
        except (binascii.Error, ValueError) as error:
            raise CidError(f"{text!r} is not base32") from error
        cid = cls.from_bytes(data)
        if str(cid) != text:
            raise CidError(f"{text!r} is not the canonical text of its CID")
        return cid

    @classmethod
    def from_bytes(cls, data: bytes) -> Cid:
        """Return the CID that 36 binary bytes write. Raises `CidError` like `parse`."""
        codec = _CODECS.get(data[:4])
        if codec is None or len(data) != CID_BYTES:
            raise CidError(
                f"0x{data[:8].hex()}… is not a CIDv1 of codec raw or dag-pb with a SHA-256 digest"
            )
        return cls(codec, data[4:])

    def to_bytes(self) -> bytes:
        """Return the 36 binary bytes, as they stand in dag-pb links and CAR files."""
        return _PREFIXES[self.codec] + self.digest

    @property
    def multihash(self) -> bytes:
        """The 34 bytes that are the whole of a CIDv0."""
        return _MULTIHASH + self.digest

    def matches(self, data: bytes | memoryview) -> bool:
        """Return whether these are the bytes that the CID names."""
        return hashlib.sha256(data).digest() == self.digest

    def __str__(self) -> str:
        return "b" + base64.b32encode(self.to_bytes()).decode().rstrip("=").lower()
