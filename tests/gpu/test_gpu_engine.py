"""The text engine on a GPU: transformers' own modules, our cache in the GPU's memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from inference.engine.engine import TextEngine
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.loader import LoadedModel, load
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PROMPTS = [tuple(range(40, 40 + length)) for length in (1, 5, 16, 17, 40, 70)]


def loaded_on(
    device: str, chain: Chain, deployment: Deployment, signers: list[Signer], folder: Path
) -> LoadedModel:
    shelf = Shelf(chain, deployment, signers[1])
    with shelf.verified(tiny_models.llama(folder), task="chat") as verified:
        return load(verified, device=device, threads=1)


def answers(loaded: LoadedModel, *, exact: bool) -> list[list[int]]:
    """Return the greedy answers to all prompts, made together."""
    engine = TextEngine(loaded)

    async def answer(prompt: tuple[int, ...]) -> list[int]:
        id = engine.submit(GenerationRequest(prompt, Sampling(20), exact=exact))
        return [token async for delta in engine.stream(id) for token in delta.token_ids]

    async def together() -> list[list[int]]:
        return await asyncio.gather(*map(answer, PROMPTS))

    try:
        return asyncio.run(together())
    finally:
        engine.close()


def test_a_gpu_gives_the_tokens_a_cpu_gives(
    chain: Chain, deployment: Deployment, signers: list[Signer], tmp_path: Path
) -> None:
    here = loaded_on("cpu", chain, deployment, signers, tmp_path / "model")
    there = loaded_on("cuda", chain, deployment, signers, tmp_path / "model")
    assert there.plan is not None
    assert not there.plan.packed
    expected = answers(here, exact=False)
    assert answers(there, exact=False) == expected
    assert answers(there, exact=True) == expected


def test_exact_answers_on_a_gpu_come_out_again(
    chain: Chain, deployment: Deployment, signers: list[Signer], tmp_path: Path
) -> None:
    loaded = loaded_on("cuda", chain, deployment, signers, tmp_path / "model")
    assert answers(loaded, exact=True) == answers(loaded, exact=True)
