"""The right edge of a Merkle tree: what is needed to add leaves and to know the root, no more."""

from __future__ import annotations

from collections.abc import Sequence

from inference.audit.merkle import EMPTY_ROOT, HASH_BYTES, ProofError, node_hash


class Frontier:
    """The complete subtrees of a tree of `size` leaves, the largest first: at most 64 hashes."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Begin with a tree. Raises `ProofError` when these cannot be its subtrees."""
        if size.bit_count() != len(hashes) or any(len(item) != HASH_BYTES for item in hashes):
            raise ProofError(f"{len(hashes)} hashes are no edge of a tree of {size}")
        self.size = size
        self.hashes = list(hashes)

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        value, size, hashes = leaf, self.size, self.hashes
        while size & 1:
            value = node_hash(hashes.pop(), value)
            size >>= 1
        hashes.append(value)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over the leaves so far."""
        if not self.hashes:
            return EMPTY_ROOT
        value = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            value = node_hash(left, value)
        return value
