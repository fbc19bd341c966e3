"""The auditor's machine computes as the receipt says, or says that it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.api.answers import Answers
from inference.api.plan import CHAT_PATH, plan_of
from inference.audit.replay import Disclosure, Prepared, replay
from inference.engine.engine import TextEngine
from inference.engine.kernels.unit import has_bf16_unit, processor
from inference.errors import AuditError
from inference.loader import load
from inference.receipt_format import RequestFacts, TokenFacts
from inference.receipts import SignedReceipt, issue, salted_hash, token_digest
from inference.replayer import ModelReplayer
from inference.statements import runtime_of
from inference.work import sampling_facts
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.manifest_parts import Serving
from registry.signing.signer import Signer
from registry.verify import VerifiedModel
from tests.inference import tiny_models
from tests.inference.receipt_samples import DOMAIN, NODE, SALTS, call
from tests.inference.shelf import Shelf

PATIENCE_S = 120
TOKENS = 24
SEED = 5
BODY = json.dumps(
    {
        "model": "narrow",
        "messages": [{"role": "user", "content": "Which numbers came out of you?"}],
        "max_tokens": TOKENS,
        "temperature": 1.0,
    }
).encode()
NEEDS_UNIT = pytest.mark.skipif(not has_bf16_unit(), reason="needs a processor's bfloat16 unit")


@dataclass
class Books:
    """A workspace that has verified one model."""

    verified: VerifiedModel

    def verify(self, model_id: bytes) -> VerifiedModel:
        assert model_id == self.verified.model_id
        return self.verified


@dataclass
class Sold:
    """A call as an honest node served it: its tokens, and by how much each of them won."""

    signed: SignedReceipt
    ids: tuple[int, ...]
    margins: tuple[float, ...]

    def said(self, ids: tuple[int, ...], **runtime: Any) -> SignedReceipt:
        """Return the receipt that says other tokens, or another runtime, of the same call."""
        facts = self.signed.receipt
        stated = replace(
            served(facts),
            tokens=replace(facts.tokens, output_digest=token_digest(ids), output=len(ids)),
            runtime=replace(facts.runtime, **runtime),
        )
        return issue(NODE, DOMAIN, stated, seq=0, prev=bytes(32))


def served(facts: Any) -> Any:
    """Return the sample call with what a served one has of its own."""
    names = ("model", "runtime", "sampling", "tokens", "request")
    return replace(call(), **{name: getattr(facts, name) for name in names})


@pytest.fixture(scope="module")
def verified(
    chain: Chain,
    deployment: Deployment,
    signers: list[Signer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[VerifiedModel]:
    folder: Path = tiny_models.llama(
        tmp_path_factory.mktemp("replayed") / "narrow", dtype=torch.bfloat16
    )
    shelf = Shelf(chain, deployment, signers[1])
    with shelf.verified(folder, task="chat", serving=Serving("BF16", 120, 80)) as found:
        yield found


@pytest.fixture(scope="module")
def replayer(verified: VerifiedModel) -> Iterator[ModelReplayer]:
    books: Any = Books(verified)
    with closing(ModelReplayer(books, lambda _: None)) as opened:
        yield opened


def sold(verified: VerifiedModel, *, single: bool) -> Sold:
    """Serve the call with an engine of the node's own."""
    loaded = load(verified, device="cpu", threads=1, single=single)
    plan = plan_of(CHAT_PATH, BODY, loaded, seed=SEED)

    async def work(engine: TextEngine) -> Answers:
        answers = Answers(engine, plan.requests("somebody"))
        async for _ in answers.told():
            continue
        return answers

    with closing(TextEngine(loaded)) as engine:
        answers = asyncio.run(asyncio.wait_for(work(engine), PATIENCE_S))
        runtime = runtime_of(engine.facts_for(exact=False))
    ids = answers.output_ids
    facts = replace(
        call(),
        model=replace(
            call().model,
            name="narrow",
            model_id=verified.model_id,
            resident_digest=loaded.resident.digest,
        ),
        runtime=runtime,
        sampling=sampling_facts(plan.total),
        tokens=TokenFacts(
            token_digest(plan.input_ids), token_digest(ids), len(plan.input_ids), len(ids)
        ),
        request=RequestFacts(CHAT_PATH, salted_hash(SALTS.request, BODY)),
    )
    return Sold(issue(NODE, DOMAIN, facts, seq=0, prev=bytes(32)), ids, answers.margins)


def again(replayer: ModelReplayer, signed: SignedReceipt) -> Any:
    """Return what comes out on the auditor's machine."""
    prepared: Prepared = replayer.prepare(signed.receipt, BODY)
    return replayer.generate(signed.receipt, prepared, TOKENS)


def disclosed(ids: tuple[int, ...]) -> Disclosure:
    return Disclosure(BODY, SALTS.request, ids)


@pytest.mark.parametrize(
    ("single", "engine"),
    [
        pytest.param(True, "weightproof/packed exact", id="single"),
        pytest.param(
            False, f"weightproof/packed-bf16-{processor()} exact", id="paired", marks=NEEDS_UNIT
        ),
    ],
)
def test_a_call_is_replayed_bit_for_bit_in_the_arithmetic_that_its_receipt_names(
    verified: VerifiedModel, replayer: ModelReplayer, single: bool, engine: str
) -> None:
    honest = sold(verified, single=single)
    assert honest.signed.receipt.runtime.engine == engine
    lie = (*honest.ids[:4], honest.ids[4] ^ 1, *honest.ids[5:])
    with pytest.raises(AuditError, match="other tokens come out"):
        replay(honest.said(lie), disclosed(lie), replayer)
    made = again(replayer, honest.signed)
    assert made.ids == honest.ids
    # Tokens may agree by luck, all of these floats may not.
    assert made.margins == honest.margins
    assert replayer.runtime(honest.signed.receipt) == honest.signed.receipt.runtime
    assert replay(honest.signed, disclosed(honest.ids), replayer).same


@NEEDS_UNIT
def test_the_two_arithmetics_are_told_apart_by_their_margins(verified: VerifiedModel) -> None:
    assert sold(verified, single=True).margins != sold(verified, single=False).margins


@pytest.mark.parametrize("single", [True, pytest.param(False, marks=NEEDS_UNIT)])
def test_what_another_processors_bfloat16_unit_made_is_weighed(
    replayer: ModelReplayer, verified: VerifiedModel, single: bool
) -> None:
    ours = sold(verified, single=single)
    elsewhere = "weightproof/packed-bf16-another exact"
    assert replay(ours.said(ours.ids, engine=elsewhere), disclosed(ours.ids), replayer).weighed
    # Other tokens lose to those that are drawn here, whatever its adders do.
    others = (*ours.ids[:-8], *(id ^ 1 for id in ours.ids[-8:]))
    with pytest.raises(AuditError, match="the answer is not the model's: its tokens lose"):
        replay(ours.said(others, engine=elsewhere), disclosed(others), replayer)
    with pytest.raises(AuditError, match="other tokens come out"):
        replay(ours.said(others), disclosed(others), replayer)
