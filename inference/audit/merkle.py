"""The Merkle tree of RFC 6962, as pure functions.

Source: RFC 6962 §2.1 (hashes, audit paths, consistency proofs); RFC 9162 §2.1.3.2 and §2.1.4.2
(verification). A tree is never held as an object: whoever asks hands in `node(level, position)`,
which gives the hash of the complete subtree over leaves [position·2^level, (position+1)·2^level).
The log answers from its tables, an auditor from the leaves it has read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from inference.errors import NodeError

NodeSource: TypeAlias = Callable[[int, int], bytes]

# RFC 6962 §2.1: the hash of an empty tree is the hash of an empty string.
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
HASH_BYTES: Final = 32
# Prefixes keep a leaf from being read as an inner node (second preimage).
_LEAF_PREFIX: Final = b"\x00"
_NODE_PREFIX: Final = b"\x01"


class ProofError(NodeError):
    """A Merkle proof does not prove what it should, or is asked of a tree that is too small."""

    status = 400
    code = "no_such_proof"
    exit_code = 6


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of one leaf's bytes."""
    return hashlib.sha256(_LEAF_PREFIX + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node."""
    return hashlib.sha256(_NODE_PREFIX + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes in order: what an auditor recomputes. O(n)."""
    return _root_of_hashes(leaf_hashes)


def nodes_of(leaf_hashes: Sequence[bytes]) -> NodeSource:
    """Return a `NodeSource` over leaves that lie in memory."""

    def node(level: int, position: int) -> bytes:
        return _root_of_hashes(leaf_hashes[position << level : (position + 1) << level])

    return node


def tree_root(size: int, node: NodeSource) -> bytes:
    """Return the root of the first `size` leaves, reading O(log size) nodes."""
    return _range_hash(0, size, node) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, node: NodeSource) -> tuple[bytes, ...]:
    """Return PATH(index, D[size]), lowest sibling first. Raises `ProofError` out of range."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(start, middle, node))
            start = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, node: NodeSource) -> tuple[bytes, ...]:
    """Return PROOF(old, D[new]): evidence that the larger tree begins with the smaller.

    Empty when `old` is 0 or equals `new`. Raises `ProofError` when `old` is larger than `new`.
    """
    if not 0 <= old <= new:
        raise ProofError(f"no tree of {old} leaves comes before one of {new}")
    if old in (0, new):
        return ()
    path: list[bytes] = []
    start, end = 0, new
    # Whether the old tree's part of [start, end) still begins at leaf 0: then the verifier has it.
    whole = True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(_range_hash(start, end, node))
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """Check that the leaf hash `leaf` stands at `index` in the tree (`size`, `expected_root`).

    Raises `ProofError` with the reason otherwise. Source: RFC 9162 §2.1.3.2.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    at, last, value = index, size - 1, leaf
    for sibling in _hashes(proof):
        if last == 0:
            raise ProofError(f"the inclusion proof has {len(proof)} hashes, too many")
        if at & 1 or at == last:
            value = node_hash(sibling, value)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError(f"the inclusion proof has {len(proof)} hashes, too few")
    if value != expected_root:
        raise ProofError(f"leaf {index} leads to root {value.hex()}, not {expected_root.hex()}")


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree (`new`, `new_root`) begins with the tree (`old`, `old_root`).

    Raises `ProofError` with the reason otherwise. Source: RFC 9162 §2.1.4.2.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a log of {new} cannot extend one of {old}: it shrank")
    if old in (0, new):
        _verify_trivial(old, old_root, new_root, proof)
        return
    path = _hashes(proof)
    # A complete old tree is itself the first hash, which the verifier has; it is not sent.
    if old & (old - 1) == 0:
        path = (old_root, *path)
    if not path:
        raise ProofError("the consistency proof is empty")
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError(f"the consistency proof has {len(proof)} hashes, too many")
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError(f"the consistency proof has {len(proof)} hashes, too few")
    if first != old_root:
        raise ProofError(f"the proof leads to old root {first.hex()}, not {old_root.hex()}")
    if second != new_root:
        raise ProofError(f"the proof leads to new root {second.hex()}, not {new_root.hex()}")


def _verify_trivial(old: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    if proof:
        raise ProofError(f"the consistency proof has {len(proof)} hashes, none is needed")
    expected = EMPTY_ROOT if old == 0 else new_root
    if old_root != expected:
        raise ProofError(f"two roots of size {old}: {old_root.hex()} and {expected.hex()}")


def _hashes(proof: Sequence[bytes]) -> tuple[bytes, ...]:
    if any(len(item) != HASH_BYTES for item in proof):
        raise ProofError(f"a proof consists of hashes of {HASH_BYTES} bytes")
    return tuple(proof)


def _split(count: int) -> int:
    """Return the largest power of two smaller than `count` (≥ 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def _range_hash(start: int, end: int, node: NodeSource) -> bytes:
    """Return MTH of leaves [start, end), a range that RFC 6962's recursion meets."""
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range_hash(start, middle, node), _range_hash(middle, end, node))


def _root_of_hashes(level: Sequence[bytes]) -> bytes:
    """Fold pairs level by level; an odd last node moves up unchanged, which is MTH."""
    if not level:
        return EMPTY_ROOT
    while len(level) > 1:
        odd = [level[-1]] if len(level) % 2 else []
        level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)] + odd
    return level[0]
