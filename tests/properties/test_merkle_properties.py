"""Properties of the tree: every proof verifies, and verifies nothing else."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from inference.audit import merkle
from inference.audit.merkle import ProofError

SIZES = st.integers(min_value=1, max_value=70)


def leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(str(index).encode()) for index in range(size)]


def naive_root(hashes: list[bytes]) -> bytes:
    """MTH word for word as RFC 6962 §2.1 defines it."""
    if not hashes:
        return merkle.EMPTY_ROOT
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return merkle.node_hash(naive_root(hashes[:split]), naive_root(hashes[split:]))


@given(st.integers(min_value=0, max_value=200))
def test_both_ways_to_the_root_give_the_definition(size: int) -> None:
    hashes = leaves(size)
    expected = naive_root(hashes)
    assert merkle.root(hashes) == expected
    assert merkle.tree_root(size, merkle.nodes_of(hashes)) == expected


@given(SIZES, st.data())
def test_every_leaf_is_proved_and_no_other(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, merkle.nodes_of(hashes))
    merkle.verify_inclusion(hashes[index], index, size, proof, merkle.root(hashes))
    assume(other != index)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(hashes[other], index, size, proof, merkle.root(hashes))
    with pytest.raises(ProofError):
        merkle.verify_inclusion(hashes[index], other, size, proof, merkle.root(hashes))


@given(SIZES, st.data())
def test_every_prefix_is_proved_consistent(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    old = data.draw(st.integers(0, size))
    proof = merkle.consistency_proof(old, size, merkle.nodes_of(hashes))
    merkle.verify_consistency(old, size, merkle.root(hashes[:old]), merkle.root(hashes), proof)


@given(st.integers(2, 70), st.data())
def test_no_proof_joins_a_forked_tree(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    old = data.draw(st.integers(1, size - 1))
    changed = data.draw(st.integers(0, old - 1))
    forked = [*hashes]
    forked[changed] = merkle.leaf_hash(b"forked")
    for node in (merkle.nodes_of(hashes), merkle.nodes_of(forked)):
        proof = merkle.consistency_proof(old, size, node)
        with pytest.raises(ProofError):
            merkle.verify_consistency(
                old, size, merkle.root(hashes[:old]), merkle.root(forked), proof
            )


@given(SIZES, st.data())
def test_a_changed_bit_in_a_proof_is_refused(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof = list(merkle.inclusion_proof(index, size, merkle.nodes_of(hashes)))
    assume(proof)
    at = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    proof[at] = (int.from_bytes(proof[at], "big") ^ (1 << bit)).to_bytes(32, "big")
    with pytest.raises(ProofError):
        merkle.verify_inclusion(hashes[index], index, size, proof, merkle.root(hashes))


@given(SIZES)
def test_proofs_are_logarithmic(size: int) -> None:
    node = merkle.nodes_of(leaves(size))
    bound = (size - 1).bit_length()
    assert all(len(merkle.inclusion_proof(i, size, node)) <= bound for i in range(size))
    assert all(len(merkle.consistency_proof(i, size, node)) <= bound + 1 for i in range(size))
