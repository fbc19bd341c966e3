"""Keccak-256, Ethereum's hash, in C: a paid call takes a dozen of them."""

from __future__ import annotations

from sha3 import keccak_256  # type: ignore[import-untyped]  # it has no types


def keccak(data: bytes) -> bytes:
    """Return the 32 bytes of keccak-256."""
    digest: bytes = keccak_256(data).digest()
    return digest
