"""The text engine on a GPU: transformers' own modules, our cache in the GPU's memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from inference.engine.decode_pass import gpu_attention
from inference.engine.engine import TextEngine
from inference.engine.forward import Span
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.module_forward import ModuleForward
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.loader import LoadedModel, load
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference import tiny_models
from tests.inference.engine.test_decode_pass import (
    BLOCKS,
    CONFIGS,
    CONTEXT,
    defined,
    logits,
    module,
    sequences,
)
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


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_recorded_pass_gives_the_logits_of_the_modules(kind: str) -> None:
    device = torch.device("cuda")
    plain = ModuleForward(module(kind).to(device), device, blocks=BLOCKS, context=CONTEXT)
    plain._decode = None
    played = ModuleForward(module(kind).to(device), device, blocks=BLOCKS, context=CONTEXT)
    both = [(plain, sequences((5, 15, 17, 64))), (played, sequences((5, 15, 17, 64)))]
    for forward, all_ in both:
        forward.run([Span(one, 0, len(one.tokens)) for one in all_])
    for step in range(6):
        found = []
        for forward, all_ in both:
            for one in all_:
                one.tokens.append((len(one.tokens) * 5 + step) % 61)
            found.append(logits(forward, [Span(one, len(one.tokens) - 1, 1) for one in all_]))
        assert torch.allclose(found[0], found[1], atol=1e-4)


def test_the_kernel_on_a_gpu_attends_as_it_is_defined() -> None:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([1, 64, 65, 300])
    most = blocks_for(300)
    keys, values = torch.randn((2, most * 4, 2, BLOCK, 64), generator=generator).cuda()
    tables = torch.randperm(most * 4, generator=generator).view(4, most).cuda()
    query = torch.randn((8, 4, 64), generator=generator).cuda()
    asked = (query, keys, values, tables, lengths.cuda())
    attend = gpu_attention()
    assert torch.allclose(attend(*asked, scale=0.3), defined(*asked, scale=0.3), atol=1e-4)
    halves = [one.bfloat16() for one in asked[:3]]
    expected = defined(*(one.float() for one in halves), *asked[3:], scale=0.3)
    found = attend(*halves, *asked[3:], scale=0.3)
    assert torch.allclose(found.float(), expected, atol=2e-2)
