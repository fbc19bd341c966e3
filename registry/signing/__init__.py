"""Canonical bytes, EIP-712 digests, and keys that sign them."""
