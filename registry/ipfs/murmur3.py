"""MurmurHash3 x64, its first 64 bits: how a sharded directory spreads its names.

It protects nothing: a HAMT is a layout, and the layout is checked by its CID.
Source: public-domain MurmurHash3_x64_128 by Austin Appleby; multicodec 0x22 (murmur3-x64-64).
"""

from __future__ import annotations

from typing import Final

MULTICODEC: Final = 0x22
_MASK: Final = (1 << 64) - 1
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F


def murmur3_x64_64(data: bytes) -> bytes:
    """Return the first eight bytes, big-endian, of the 128-bit hash with seed 0."""
    h1 = h2 = 0
    tail_at = len(data) & ~15
    for at in range(0, tail_at, 16):
        h1 ^= _scramble(int.from_bytes(data[at : at + 8], "little"), _C1, _C2, 31)
        h1 = ((_rotate(h1, 27) + h2) * 5 + 0x52DCE729) & _MASK
        h2 ^= _scramble(int.from_bytes(data[at + 8 : at + 16], "little"), _C2, _C1, 33)
        h2 = ((_rotate(h2, 31) + h1) * 5 + 0x38495AB5) & _MASK
    tail = data[tail_at:]
    h2 ^= _scramble(int.from_bytes(tail[8:], "little"), _C2, _C1, 33)
    h1 ^= _scramble(int.from_bytes(tail[:8], "little"), _C1, _C2, 31)
    h1 ^= len(data)
    h2 ^= len(data)
    h1 = (h1 + h2) & _MASK
    h2 = (h2 + h1) & _MASK
    return ((_finish(h1) + _finish(h2)) & _MASK).to_bytes(8, "big")


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _MASK


def _scramble(word: int, first: int, second: int, bits: int) -> int:
    return _rotate(word * first & _MASK, bits) * second & _MASK


def _finish(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33
