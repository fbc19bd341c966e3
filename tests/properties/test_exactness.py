"""A call's tokens and how they were chosen follow from the call alone, bit for bit.

Each example is a call, and companions with prompts, lengths, sampling, arrivals and cancels of
their own. What the call gets among them is compared with what it gets alone on a fresh engine,
token by token and every log-probability and margin as the very same float.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.engine.engine import TextEngine
from inference.engine.kernels.unit import processor
from inference.engine.sampling import Choice, Sampling
from inference.engine.sequence import GenerationRequest
from inference.loader import LoadedModel, load
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.manifest_parts import Serving
from registry.signing.signer import Signer
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

PATIENCE_S = 120
# Heads of few texts: calls begin alike, so that what was computed for one is read by another.
TEXTS = tuple([(7 + n * step) % 250 for n in range(100)] for step in (1, 3, 3))


@dataclass(frozen=True)
class Call:
    """A call of a mix: when it comes, in turns of the loop, and after how many deltas it leaves."""

    request: GenerationRequest
    after: int = 0
    leaves: int | None = None


@st.composite
def samplings(draw: Any) -> Sampling:
    greedy = draw(st.booleans())
    return Sampling(
        draw(st.integers(1, 12)),
        temperature=Decimal(0) if greedy else Decimal(draw(st.sampled_from(["0.3", "1", "2"]))),
        top_p=Decimal(draw(st.sampled_from(["1", "0.9"]))),
        top_k=draw(st.sampled_from([0, 5])),
        seed=draw(st.integers(0, 99)),
        frequency_penalty=Decimal(draw(st.sampled_from(["0", "0.5"]))),
        top_logprobs=draw(st.sampled_from([0, 3])),
    )


@st.composite
def requests(draw: Any, *, exact: bool) -> GenerationRequest:
    text = TEXTS[draw(st.integers(0, len(TEXTS) - 1))]
    return GenerationRequest(
        tuple(text[: draw(st.integers(1, len(text)))]),
        draw(samplings()),
        payer=draw(st.sampled_from("ab")),
        exact=exact,
    )


@st.composite
def companions(draw: Any) -> list[Call]:
    return [
        Call(
            draw(requests(exact=draw(st.booleans()))),
            after=draw(st.integers(0, 30)),
            leaves=draw(st.none() | st.integers(0, 5)),
        )
        for _ in range(draw(st.integers(1, 9)))
    ]


async def answer(engine: TextEngine, call: Call) -> list[Choice]:
    for _ in range(call.after):
        await asyncio.sleep(0)
    made: list[Choice] = []
    id = engine.submit(call.request)
    if call.leaves == 0:
        engine.cancel(id)
        return made
    stream = engine.stream(id)
    async for delta in stream:
        made += delta.choices
        if call.leaves is not None and len(made) >= call.leaves:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    return made


def answers(engine: TextEngine, calls: list[Call]) -> list[list[Choice]]:
    async def work() -> list[list[Choice]]:
        return list(await asyncio.gather(*(answer(engine, call) for call in calls)))

    return asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


@pytest.fixture(scope="module")
def shelf(chain: Chain, deployment: Deployment, signers: list[Signer]) -> Shelf:
    return Shelf(chain, deployment, signers[1])


def narrow_llama(folder: Path) -> Path:
    return tiny_models.llama(folder, dtype=torch.bfloat16)


# bfloat16 is multiplied by the processor's unit for it where there is one.
MODELS = {
    "llama": (tiny_models.llama, "F32"),
    "llama-bf16": (narrow_llama, "BF16"),
    "qwen2": (tiny_models.qwen2, "F32"),
    "gpt2": (tiny_models.gpt2, "F32"),
}


@pytest.fixture(scope="module", params=MODELS)
def loaded(request: Any, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    make, dtype = MODELS[request.param]
    folder: Path = make(tmp_path_factory.mktemp("exact") / "tiny")
    with shelf.verified(folder, task="chat", serving=Serving(dtype, 120, 80)) as verified:
        return load(verified, device="cpu", threads=1)


@pytest.fixture(scope="module")
def busy(loaded: LoadedModel) -> Iterator[TextEngine]:
    """An engine that serves one mix after the other, its cache full of what came before."""
    engine = TextEngine(loaded, queue_limit=100, max_running=6)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def quiet(loaded: LoadedModel) -> Iterator[TextEngine]:
    """An engine that computes one call at a time."""
    engine = TextEngine(loaded)
    yield engine
    engine.close()


@settings(max_examples=40)
@given(call=requests(exact=True), after=st.integers(0, 30), others=companions())
def test_company_changes_no_token_and_no_bit_of_a_probability(
    busy: TextEngine,
    quiet: TextEngine,
    call: GenerationRequest,
    after: int,
    others: list[Call],
) -> None:
    alone = answers(quiet, [Call(call)])[0]
    assert len(alone) >= 1
    assert answers(busy, [Call(call, after), *others])[0] == alone


@settings(max_examples=5)
@given(call=requests(exact=True), others=companions())
def test_a_fresh_engine_makes_the_same_answer_again(
    loaded: LoadedModel, busy: TextEngine, call: GenerationRequest, others: list[Call]
) -> None:
    among = answers(busy, [*others, Call(call)])[-1]
    fresh = TextEngine(loaded)
    assert answers(fresh, [Call(call)])[0] == among
    fresh.close()


@settings(max_examples=15)
@given(call=requests(exact=False), others=companions())
def test_kernels_promise_exactness_unasked_and_modules_do_not(
    loaded: LoadedModel,
    busy: TextEngine,
    quiet: TextEngine,
    call: GenerationRequest,
    others: list[Call],
) -> None:
    promised = "exact" in busy.facts.to_json()["engine"]
    assert promised == (loaded.plan is not None and loaded.plan.packed)
    if loaded.plan is not None and loaded.plan.paired:
        assert busy.facts.to_json()["engine"] == f"weightproof/packed-bf16-{processor()} exact"
    assert "exact" in busy.facts_for(exact=True).to_json()["engine"]
    among, alone = (answers(e, [Call(call), *o])[0] for e, o in ((busy, others), (quiet, [])))
    assert len(alone) >= 1
    if promised:
        assert among == alone
