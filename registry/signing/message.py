"""Texts that wallets sign for people to read: EIP-191, version 0x45."""

from __future__ import annotations

from eth_hash.auto import keccak


def message_digest(text: str) -> bytes:
    """Return the 32 bytes that a wallet signs for `text` (`personal_sign`)."""
    data = text.encode()
    return keccak(b"\x19Ethereum Signed Message:\n%d" % len(data) + data)
