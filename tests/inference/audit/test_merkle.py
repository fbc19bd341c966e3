"""The tree against RFC 6962's known values, and against proofs that prove something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inference.audit import merkle
from inference.audit.merkle import ProofError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "merkle_rfc6962.json").read_text())
LEAVES = [merkle.leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]
NODE = merkle.nodes_of(LEAVES)
ROOTS = [bytes.fromhex(root) for root in VECTORS["roots"]]


def test_a_leaf_beyond_the_tree_has_no_proof() -> None:
    with pytest.raises(ProofError, match="leaf 8 is not in a tree of 8"):
        merkle.inclusion_proof(8, 8, NODE)
    with pytest.raises(ProofError, match="leaf 3 is not in a tree of 3"):
        merkle.verify_inclusion(LEAVES[3], 3, 3, (), ROOTS[3])


def test_a_shrunk_tree_is_not_an_extension() -> None:
    with pytest.raises(ProofError, match="no tree of 8 leaves comes before one of 6"):
        merkle.consistency_proof(8, 6, NODE)
    with pytest.raises(ProofError, match="it shrank"):
        merkle.verify_consistency(8, 6, ROOTS[8], ROOTS[6], ())


def test_another_leaf_at_the_place_is_refused() -> None:
    proof = merkle.inclusion_proof(5, 8, NODE)
    with pytest.raises(ProofError, match="leads to root"):
        merkle.verify_inclusion(LEAVES[4], 5, 8, proof, ROOTS[8])


def test_an_inner_node_given_as_a_leaf_is_refused() -> None:
    inner = NODE(1, 0)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(inner, 0, 8, merkle.inclusion_proof(0, 8, NODE)[1:], ROOTS[8])


def test_proofs_of_the_wrong_length_are_refused() -> None:
    proof = merkle.inclusion_proof(5, 8, NODE)
    for wrong in (proof[:-1], (*proof, proof[0]), ()):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(LEAVES[5], 5, 8, wrong, ROOTS[8])
    extension = merkle.consistency_proof(6, 8, NODE)
    for wrong in (extension[:-1], (*extension, extension[0]), ()):
        with pytest.raises(ProofError):
            merkle.verify_consistency(6, 8, ROOTS[6], ROOTS[8], wrong)


def test_hashes_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(ProofError, match="32 bytes"):
        merkle.verify_inclusion(LEAVES[0], 0, 2, (b"short",), ROOTS[2])


def test_two_roots_of_one_size_are_refused() -> None:
    with pytest.raises(ProofError, match="two roots of size 8"):
        merkle.verify_consistency(8, 8, ROOTS[7], ROOTS[8], ())
    with pytest.raises(ProofError, match="two roots of size 0"):
        merkle.verify_consistency(0, 8, ROOTS[7], ROOTS[8], ())


def test_a_proof_where_none_is_needed_is_refused() -> None:
    with pytest.raises(ProofError, match="none is needed"):
        merkle.verify_consistency(8, 8, ROOTS[8], ROOTS[8], (ROOTS[1],))


def test_a_rewritten_leaf_breaks_every_later_tree() -> None:
    forged = [*LEAVES[:2], merkle.leaf_hash(b"forged"), *LEAVES[3:]]
    node = merkle.nodes_of(forged)
    for old in range(3, 8):
        proof = merkle.consistency_proof(old, 8, node)
        with pytest.raises(ProofError):
            merkle.verify_consistency(old, 8, ROOTS[old], merkle.root(forged), proof)


@pytest.mark.parametrize("size", range(9))
def test_roots_are_rfc_6962s(size: int) -> None:
    assert merkle.root(LEAVES[:size]) == ROOTS[size]
    assert merkle.tree_root(size, NODE) == ROOTS[size]


@pytest.mark.parametrize("vector", VECTORS["inclusion"], ids=str)
def test_inclusion_proofs_are_rfc_6962s(vector: dict[str, object]) -> None:
    index, size = int(str(vector["index"])), int(str(vector["size"]))
    proof = merkle.inclusion_proof(index, size, NODE)
    assert [item.hex() for item in proof] == vector["proof"]
    merkle.verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


@pytest.mark.parametrize("vector", VECTORS["consistency"], ids=str)
def test_consistency_proofs_are_rfc_6962s(vector: dict[str, object]) -> None:
    old, new = int(str(vector["old"])), int(str(vector["new"]))
    proof = merkle.consistency_proof(old, new, NODE)
    assert [item.hex() for item in proof] == vector["proof"]
    merkle.verify_consistency(old, new, ROOTS[old], ROOTS[new], proof)
