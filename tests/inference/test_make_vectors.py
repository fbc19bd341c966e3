"""The vectors follow from their facts, by a script that anybody can run."""

from __future__ import annotations

import copy
import json

from inference.proof import parse_proof
from scripts import make_vectors
from tests.inference.proof_samples import CHANNEL, PROOFS, VECTORS


def test_other_facts_make_another_vector() -> None:
    vector = copy.deepcopy(VECTORS[CHANNEL])
    vector["bundle"]["receipt"]["payment"]["charged"] = "127"
    again = make_vectors.made(vector)
    assert again["canonical"] != vector["canonical"]
    assert again["leafHash"] != vector["leafHash"]
    assert again["bundle"]["signature"] != vector["bundle"]["signature"]


def test_no_vector_drifted_from_its_facts() -> None:
    assert make_vectors.drifted() == []
    assert make_vectors.main(["--check"]) == 0


def test_every_good_vector_has_all_that_its_proof_rests_on() -> None:
    wanted = {"entry", "leafHash", "checkpoint", "inclusion", "proof"}
    for name, vector in VECTORS.items():
        if "refuse" not in vector:
            assert wanted <= vector.keys(), name
            proof = parse_proof(vector["proof"].encode())
            assert proof.encode().decode() == vector["proof"]
            assert proof.entry.encode().decode() == vector["entry"]
    assert json.loads(PROOFS[CHANNEL])["format"] == "weightproof/proof@1"
