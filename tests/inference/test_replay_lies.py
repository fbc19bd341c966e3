"""Calls of the real model: an honest node of another arithmetic passes, liars are shown to lie."""

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
from inference.api.plan import CHAT_PATH, TextPlan, plan_of
from inference.audit.replay import Disclosure, replay, shown_in
from inference.demo.models import prepare_smollm2
from inference.engine.engine import TextEngine
from inference.engine.engines import open_generator
from inference.engine.generator import Generator
from inference.engine.packing import NAME, pack
from inference.errors import AuditError
from inference.loader import LoadedModel, load
from inference.receipt_format import RequestFacts, TokenFacts
from inference.receipts import SignedReceipt, issue, salted_hash, token_digest
from inference.replayer import ModelReplayer
from inference.statements import runtime_of
from inference.work import sampling_facts
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from registry.verify import VerifiedModel
from tests.inference.receipt_samples import DOMAIN, NODE, SALTS, call
from tests.inference.shelf import Shelf

# Kept between runs and out of git; making it takes half a minute.
CACHE = Path(__file__).parents[2] / ".cache" / "models"
PATIENCE_S = 240
TOKENS = 96
SEED = 5
# The model comes from a file of 4 bits in groups of 32: by those it would hardly change.
GROUP = 64
# What the laxest honest node states: it is held to no more than bfloat16 gives.
ROUGH = {"engine": "weightproof/modules", "dtype": "BF16"}
TEXT = (
    "The lighthouse stood at the end of a long pier. Every evening its keeper climbed the stairs, "
    "lit the lamp and wrote the names of passing ships into a book. One night no ship came, and he "
    "wrote down what he thought about instead. Go on with this story, and tell what he wrote."
)


@dataclass
class Books:
    """A workspace that has verified one model."""

    verified: VerifiedModel

    def verify(self, model_id: bytes) -> VerifiedModel:
        assert model_id == self.verified.model_id
        return self.verified


@dataclass
class Node:
    """Computes with a model that it loaded, and states what it likes."""

    verified: VerifiedModel
    loaded: LoadedModel
    engine: Generator

    def sold(
        self, body: bytes, *, done: bytes | None = None, **runtime: Any
    ) -> tuple[SignedReceipt, Disclosure]:
        """Answer `done` in place of `body`, and sign that it was `body`."""
        plan = plan_of(CHAT_PATH, body, self.loaded, seed=SEED)
        ids = self._answer(plan_of(CHAT_PATH, done or body, self.loaded, seed=SEED))
        stated = replace(runtime_of(self.engine.facts_for(exact=False)), **runtime)
        facts = replace(
            call(),
            model=replace(
                call().model,
                name="smollm2",
                model_id=self.verified.model_id,
                resident_digest=self.loaded.resident.digest,
            ),
            runtime=stated,
            sampling=sampling_facts(plan.total),
            tokens=TokenFacts(
                token_digest(plan.input_ids), token_digest(ids), len(plan.input_ids), len(ids)
            ),
            request=RequestFacts(CHAT_PATH, salted_hash(SALTS.request, body)),
        )
        signed = issue(NODE, DOMAIN, facts, seq=0, prev=bytes(32))
        return signed, Disclosure(body, SALTS.request, ids)

    def _answer(self, plan: TextPlan) -> tuple[int, ...]:
        async def work() -> tuple[int, ...]:
            answers = Answers(self.engine, plan.requests("somebody"))
            async for _ in answers.told():
                continue
            return answers.output_ids

        return asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def ask(text: str = TEXT, temperature: float = 0.7) -> bytes:
    messages = [{"role": "user", "content": text}]
    body = {"model": "smollm2", "messages": messages, "max_tokens": TOKENS}
    return json.dumps({**body, "temperature": temperature, "top_p": 0.95}).encode()


@pytest.fixture(scope="module")
def verified(chain: Chain, deployment: Deployment, signers: list[Signer]) -> VerifiedModel:
    shelf = Shelf(chain, deployment, signers[1])
    return shelf.verified(prepare_smollm2(CACHE / "smollm2"), task="chat")


@pytest.fixture(scope="module")
def honest(verified: VerifiedModel) -> Iterator[Node]:
    loaded = load(verified, device="cpu", threads=1, single=True)
    with closing(TextEngine(loaded)) as engine:
        yield Node(verified, loaded, engine)


@pytest.fixture(scope="module")
def replayer(verified: VerifiedModel) -> Iterator[ModelReplayer]:
    books: Any = Books(verified)
    with closing(ModelReplayer(books, lambda _: None)) as opened:
        yield opened


def rounded_to_four_bits(matrix: torch.Tensor) -> torch.Tensor:
    grouped = matrix.float().reshape(matrix.shape[0], -1, GROUP)
    low, high = grouped.amin(dim=2, keepdim=True), grouped.amax(dim=2, keepdim=True)
    scale = (high - low) / 15
    return (((grouped - low) / scale).round() * scale + low).reshape(matrix.shape)


@pytest.fixture(scope="module")
def quantised(verified: VerifiedModel) -> Iterator[Node]:
    """A node whose resident weights are what 4 bits can say of the registered ones."""
    loaded = load(verified, device="cpu", threads=1, single=True)
    with torch.no_grad():
        for part in loaded.module.model.layers.modules():
            if isinstance(part, torch.nn.Linear):
                part.weight.copy_(rounded_to_four_bits(part.weight))
    delattr(loaded.module, NAME)
    pack(loaded.module, loaded.serving.max_context, paired=False)
    with closing(TextEngine(loaded)) as engine:
        yield Node(verified, loaded, engine)


def accused(sold: tuple[SignedReceipt, Disclosure], replayer: ModelReplayer) -> None:
    """Make sure that a call is shown to be a lie, also by a third party with the evidence alone."""
    with pytest.raises(AuditError, match="the answer is not the model's") as caught:
        replay(*sold, replayer)
    assert caught.value.check == 8
    again = shown_in(json.loads(json.dumps(caught.value.evidence)))
    with pytest.raises(AuditError) as confirmed:
        replay(*again, replayer)
    assert confirmed.value.evidence == caught.value.evidence


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_weights_of_four_bits_are_caught(
    quantised: Node, replayer: ModelReplayer, temperature: float
) -> None:
    accused(quantised.sold(ask(temperature=temperature), **ROUGH), replayer)


def test_another_temperature_is_caught(honest: Node, replayer: ModelReplayer) -> None:
    accused(honest.sold(ask(), done=ask(temperature=0.3), **ROUGH), replayer)


def test_a_context_that_was_cut_off_is_caught(honest: Node, replayer: ModelReplayer) -> None:
    accused(honest.sold(ask(), done=ask(TEXT[len(TEXT) // 2 :]), **ROUGH), replayer)


def test_another_prompt_around_the_question_is_caught(
    honest: Node, replayer: ModelReplayer
) -> None:
    told = json.loads(ask())
    told["messages"].insert(0, {"role": "system", "content": "You are a helpful assistant."})
    accused(honest.sold(ask(), done=json.dumps(told).encode(), **ROUGH), replayer)


def test_an_answer_that_stops_early_or_goes_on_is_caught(
    honest: Node, replayer: ModelReplayer
) -> None:
    signed, shown = honest.sold(ask(), **ROUGH)
    ids = shown.output_ids or ()
    for lie, why in ((ids[:20], "stops where the model goes on"), ((*ids, 7), "behind its end")):
        facts = signed.receipt
        tokens = replace(facts.tokens, output_digest=token_digest(lie), output=len(lie))
        stated = replace(facts, tokens=tokens)
        other = issue(NODE, DOMAIN, stated, seq=0, prev=bytes(32))
        with pytest.raises(AuditError, match=why):
            replay(other, replace(shown, output_ids=lie), replayer)


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_an_honest_node_of_another_arithmetic_is_accepted(
    verified: VerifiedModel, replayer: ModelReplayer, temperature: float
) -> None:
    """Transformers' continuous batching in bfloat16, weighed in single precision."""
    loaded = load(verified, device="cpu", threads=1)
    with closing(open_generator("transformers", loaded, queue_limit=4)) as engine:
        sold = Node(verified, loaded, engine).sold(ask(temperature=temperature))
    assert not sold[0].receipt.runtime.is_exact
    found = replay(*sold, replayer)
    assert found.same
    assert found.weighed


def test_an_honest_node_of_the_same_arithmetic_is_accepted(
    honest: Node, replayer: ModelReplayer
) -> None:
    signed, shown = honest.sold(ask())
    found = replay(signed, shown, replayer)
    assert found.same
    assert not found.weighed
    # What another build of the same arithmetic made is weighed, and held to single precision.
    other, shown = honest.sold(ask(), version="0.0.1")
    assert replay(other, shown, replayer).weighed
