"""Resident statements: what a nonce selects is pinned, and a false statement is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.audit.document import FormatError
from inference.receipt_format import BlockFacts, ModelFacts, RuntimeFacts
from inference.receipts import RECEIPT_STRUCT, receipt_domain
from inference.resident_statement import (
    STATEMENT_STRUCT,
    Question,
    ResidentStatement,
    SignedStatement,
    StatementError,
    TensorFacts,
    body,
    check_question,
    check_runtime,
    check_selection,
    check_signature,
    check_tensors,
    issue,
    resident_domain,
    signing_digest,
)
from inference.selection import MAX_SELECTED_BYTES, MAX_TENSORS, nbytes, select
from registry.hashing.dataset import HashedFile, root_of
from registry.ipfs.cid import RAW, Cid
from registry.manifest import ModelManifest, Serving, TensorEntry
from registry.signing.canonical import decode_object
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE, REGISTRY, STRANGER

VECTOR = Path(__file__).parents[1] / "vectors" / "resident_statement.json"
NONCE = b"\x0c" * 32
MODEL_ID = b"\x01" * 32
RESIDENT = b"\x03" * 32
FILES = (HashedFile("model.safetensors", 10**9, Cid(RAW, b"\x02" * 32)),)
TENSORS = tuple(
    TensorEntry("model.safetensors", f"layers.{n:02d}.weight", "BF16", (8, n + 1), bytes([n]) * 32)
    for n in range(40)
)
MANIFEST = ModelManifest(
    name="tiny",
    task="chat",
    architecture="LlamaForCausalLM",
    root=root_of(FILES),
    files=FILES,
    tensors=TENSORS,
    parents=(),
    metrics={},
    serving=Serving("BF16", 2048, 512),
)
QUESTION = Question(NODE.address, CHAIN_ID, REGISTRY, MODEL_ID, NONCE, 8)


def selected(count: int = 8, nonce: bytes = NONCE, resident: bytes = RESIDENT) -> Any:
    return select(
        MANIFEST.tensors, nonce=nonce, model_id=MODEL_ID, resident_digest=resident, count=count
    )


STATEMENT = ResidentStatement(
    node=NODE.address,
    model=ModelFacts(
        name="tiny",
        chain=CHAIN_ID,
        registry=REGISTRY,
        model_id=MODEL_ID,
        manifest_digest=MANIFEST.digest,
        resident_digest=RESIDENT,
        block=BlockFacts(12, b"\x04" * 32),
    ),
    runtime=RuntimeFacts("weightproof", "0.1.0", "BF16", "cpu", 1),
    nonce=NONCE,
    asked=8,
    tensors=tuple(TensorFacts.of(tensor, tensor.digest) for tensor in selected()),
    made_at=1_764_000_000,
)
SIGNED = issue(NODE, STATEMENT)


def check(signed: SignedStatement, question: Question = QUESTION) -> None:
    """All that a caller checks of a statement itself."""
    check_signature(signed, question.node)
    check_question(signed, question)
    check_selection(signed, TENSORS, RESIDENT)
    check_tensors(signed, MANIFEST.digest, TENSORS, RESIDENT)
    check_runtime(signed, MANIFEST.serving.dtype)


def model(**changes: Any) -> Callable[[ResidentStatement], ResidentStatement]:
    return lambda said: replace(said, model=replace(said.model, **changes))


def first_tensor(**changes: Any) -> Callable[[ResidentStatement], ResidentStatement]:
    def change(said: ResidentStatement) -> ResidentStatement:
        first, *rest = said.tensors
        return replace(said, tensors=(replace(first, **changes), *rest))

    return change


def said(**changes: Any) -> Callable[[ResidentStatement], ResidentStatement]:
    return lambda statement: replace(statement, **changes)


@pytest.mark.parametrize(
    ("change", "number", "reason"),
    [
        (said(nonce=b"\x0d" * 32), 2, "its nonce is 0x0d"),
        (said(asked=9), 2, "asked for is 9, asked was 8"),
        (model(model_id=b"\x09" * 32), 2, "its ModelId is 0x09"),
        (model(chain=1), 2, "its chain is 1"),
        (model(registry=ANCHOR), 2, "its registry is"),
        (said(tensors=STATEMENT.tensors[:7]), 3, "the nonce selects"),
        (said(tensors=STATEMENT.tensors[::-1]), 3, "the nonce selects"),
        (said(tensors=()), 3, "the nonce selects"),
        (first_tensor(name="layers.99.weight"), 3, "the nonce selects"),
        (model(manifest_digest=bytes(32)), 4, "manifest 0x0000"),
        # The selection is drawn from the true resident digest, so that it cannot be chosen.
        (model(resident_digest=bytes(32)), 4, "the resident digest 0x0303"),
        (first_tensor(digest=bytes(32)), 4, "not what the manifest lists"),
        (first_tensor(dtype="F16"), 4, "not what the manifest lists"),
        (first_tensor(shape=(1, 1)), 4, "not what the manifest lists"),
        (said(runtime=replace(STATEMENT.runtime, dtype="F16")), 5, "served in F16"),
    ],
)
def test_a_false_statement_is_refused_even_when_it_is_signed(
    change: Callable[[ResidentStatement], ResidentStatement], number: int, reason: str
) -> None:
    signed = issue(NODE, change(STATEMENT))
    with pytest.raises(StatementError, match=reason) as caught:
        check(signed)
    assert caught.value.check == number
    assert caught.value.exit_code == 6
    assert caught.value.evidence == {"statement": signed.to_json()}


def test_a_statement_that_was_changed_after_signing_is_refused() -> None:
    changed = replace(SIGNED, statement=replace(STATEMENT, made_at=STATEMENT.made_at + 1))
    with pytest.raises(StatementError, match="was changed, or signed by 0x") as caught:
        check(changed)
    assert caught.value.check == 1


def test_a_statement_by_another_key_is_refused() -> None:
    with pytest.raises(StatementError, match="by node"):
        check(issue(STRANGER, replace(STATEMENT, node=STRANGER.address)))
    with pytest.raises(StatementError, match=f"signed by {STRANGER.address}"):
        check(issue(STRANGER, STATEMENT))


def test_a_signature_that_belongs_to_no_key_is_refused() -> None:
    with pytest.raises(StatementError, match="the statement's signature"):
        check(replace(SIGNED, signature=bytes(65)))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(extra=1),
        lambda value: value.pop("signature"),
        lambda value: value["statement"].pop("nonce"),
        lambda value: value["statement"].update(format="weightproof/receipt@1"),
        lambda value: value["statement"].update(nonce="0x0C" + "0c" * 31),
        lambda value: value["statement"].update(madeAt=-1),
        lambda value: value["statement"].update(madeAt=1.5),
        lambda value: value["statement"].update(tensors=value["statement"]["tensors"] * 9),
        lambda value: value["statement"]["tensors"][0].update(shape=[True]),
        lambda value: value["statement"]["tensors"][0].update(shape=[1] * 9),
        lambda value: value["statement"]["tensors"][0].update(shape="8"),
        lambda value: value["statement"]["tensors"][0].update(name="a\nb"),
        lambda value: value["statement"]["tensors"][0].update(dtype="bf16"),
        lambda value: value["statement"]["model"].update(registry=REGISTRY.lower()),
    ],
)
def test_another_spelling_is_refused(change: Callable[[Any], object]) -> None:
    value = json.loads(SIGNED.encode())
    change(value)
    with pytest.raises(FormatError):
        SignedStatement.from_json(value)


def test_neither_a_receipts_type_nor_its_domain_is_a_statements() -> None:
    assert STATEMENT_STRUCT.type_hash() != RECEIPT_STRUCT.type_hash()
    here = resident_domain(CHAIN_ID, REGISTRY)
    assert here.separator() != receipt_domain(CHAIN_ID, REGISTRY).separator()
    assert resident_domain(1, REGISTRY).separator() != here.separator()


def test_a_true_statement_holds_after_its_way_through_json() -> None:
    read = SignedStatement.from_json(json.loads(SIGNED.encode()))
    assert read == SIGNED
    check(read)


def test_the_request_is_what_the_node_reads() -> None:
    assert body(NONCE, 3) == {"nonce": "0x" + "0c" * 32, "tensors": 3}


def vector() -> Any:
    return json.loads(VECTOR.read_text())


def entries(case: Any) -> list[TensorEntry]:
    return [
        TensorEntry("a.safetensors", item["name"], item["dtype"], tuple(item["shape"]), bytes(32))
        for item in case["tensors"]
    ]


@pytest.mark.parametrize("number", range(len(vector()["selections"])))
def test_what_a_nonce_selects_is_pinned(number: int) -> None:
    case = vector()["selections"][number]
    nonce, model_id, resident = (
        bytes.fromhex(case[key][2:]) for key in ("nonce", "modelId", "residentDigest")
    )
    for order in (1, -1):
        found = select(
            entries(case)[::order],
            nonce=nonce,
            model_id=model_id,
            resident_digest=resident,
            count=case["count"],
        )
        assert [tensor.name for tensor in found] == case["selected"]


def test_a_signed_statement_is_pinned() -> None:
    pinned = vector()["statement"]
    signed = SignedStatement.from_json(decode_object(pinned["canonical"].encode()))
    assert signed.encode().decode() == pinned["canonical"]
    assert signing_digest(signed.statement).hex() == pinned["signingDigest"][2:]
    check_signature(signed, pinned["node"])
    assert signed == SIGNED


@given(nonce=st.binary(min_size=32, max_size=32), count=st.integers(1, MAX_TENSORS))
def test_a_selection_names_each_tensor_once_and_is_bounded(nonce: bytes, count: int) -> None:
    found = selected(count, nonce)
    assert len(found) == len({tensor.name for tensor in found}) == min(count, len(TENSORS))
    assert found == selected(MAX_TENSORS, nonce)[:count]


@given(
    sizes=st.lists(st.integers(1, 2 * MAX_SELECTED_BYTES), min_size=1, max_size=20),
    nonce=st.binary(min_size=32, max_size=32),
)
def test_a_selection_has_one_tensor_or_few_bytes(sizes: list[int], nonce: bytes) -> None:
    tensors = [
        TensorEntry("a.safetensors", f"{n}", "U8", (size,), bytes(32))
        for n, size in enumerate(sizes)
    ]
    found = select(tensors, nonce=nonce, model_id=MODEL_ID, resident_digest=RESIDENT, count=20)
    assert len(found) == 1 or sum(map(nbytes, found)) <= MAX_SELECTED_BYTES


def test_nonce_model_and_weights_each_change_the_selection() -> None:
    assert selected() != selected(nonce=b"\x0d" * 32)
    assert selected() != selected(resident=b"\x04" * 32)


def test_every_tensor_is_drawn_about_equally_often() -> None:
    rounds = 4000
    drawn = Counter(
        tensor.name for n in range(rounds) for tensor in selected(4, n.to_bytes(32, "big"))
    )
    expected = rounds * 4 / len(TENSORS)
    assert len(drawn) == len(TENSORS)
    # 400 ± 20 by chance: six standard deviations.
    assert all(abs(count - expected) < 120 for count in drawn.values())
