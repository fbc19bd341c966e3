"""The published CID vectors, and the bytes they are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from Crypto.Cipher import ChaCha20

from registry.ipfs.cid import Cid
from registry.ipfs.profile import LEGACY_V1, UNIXFS_V0_2015, UNIXFS_V1_2025, Profile

PROFILES: Final = {
    "v0-2015": UNIXFS_V0_2015,
    "v1-raw-256k": LEGACY_V1,
    "v1-2025": UNIXFS_V1_2025,
}
VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "cid_vectors.json").read_text()
)
MIB: Final = 1 << 20
CONTENTS: Final = {
    "empty": b"",
    "hello": b"hello world",
    "z256k": bytes(262144),
    "z256k1": bytes(262145),
    "z1M": bytes(MIB),
    "z1M1": bytes(MIB + 1),
    "pat10M": bytes(range(256)) * 40960,
    "pat50M": bytes(range(256)) * 204800,
}
# The second 0 is as published: 39 characters.
NAME_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz01234567890-_"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def text(cid: Cid, profile: Profile) -> str:
    """The CID as the profile writes it; CIDv0 is a multihash in base 58."""
    if profile.cid_version:
        return str(cid)
    number = int.from_bytes(cid.multihash, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return digits


def keystream(seed: str, size: int) -> Iterator[bytes]:
    """`size` bytes of the ChaCha20 keystream of a seed, a megabyte at a time."""
    cipher = ChaCha20.new(key=hashlib.sha256(seed.encode()).digest(), nonce=bytes(12))
    zeros = bytes(MIB)
    while size > 0:
        yield cipher.encrypt(zeros[: min(size, MIB)])
        size -= MIB


def names(case: dict[str, Any]) -> list[str]:
    """The file names of a published directory."""
    stream = next(keystream(case["seed"], MIB))
    lengths = [case["nameLen"]] * (case["n"] - 1) + [case["lastNameLen"]]
    found, at = [], 0
    for length in lengths:
        found.append("".join(NAME_ALPHABET[b % 39] for b in stream[at : at + length]))
        at += length
    return found
