"""On a GPU: the same checks over the memory that really computes. Skipped where there is none."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from inference.engine.classifier import Classifier
from inference.engine.engine import TextEngine
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import ModelStoppedError
from inference.loader import LoadedModel, load
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.fixture(scope="module")
def shelf(chain: Chain, deployment: Deployment, signers: list[Signer]) -> Shelf:
    return Shelf(chain, deployment, signers[1])


@pytest.fixture
def loaded(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    folder = tiny_models.llama(tmp_path / "tiny", dtype=torch.bfloat16, tied=True)
    with shelf.verified(folder, task="chat") as verified:
        return load(verified, device="auto", threads=1)


def test_a_bit_that_flips_in_gpu_memory_is_found(loaded: LoadedModel) -> None:
    assert loaded.resident.changed() is None
    weight = loaded.module.get_parameter("model.layers.0.mlp.up_proj.weight")
    weight.detach().view(-1).view(torch.uint8)[3] ^= 4
    with pytest.raises(ModelStoppedError, match=r"model.layers.0.mlp.up_proj.weight"):
        loaded.resident.check()


def test_auto_takes_the_gpu_and_says_which(loaded: LoadedModel) -> None:
    assert {parameter.device.type for parameter in loaded.module.parameters()} == {"cuda"}
    assert {buffer.device.type for buffer in loaded.module.buffers()} == {"cuda"}
    assert loaded.device == f"cuda:0 {torch.cuda.get_device_name(0)}"
    assert loaded.module.lm_head.weight is loaded.module.model.embed_tokens.weight


def test_the_resident_digest_is_the_same_on_gpu_and_cpu(
    shelf: Shelf, tmp_path: Path, loaded: LoadedModel
) -> None:
    with shelf.verified(tmp_path / "tiny", task="chat") as verified:
        assert load(verified, device="cpu").resident.digest == loaded.resident.digest


def test_greedy_tokens_on_the_gpu_are_the_same_each_time(loaded: LoadedModel) -> None:
    engine = TextEngine(loaded)

    async def work() -> list[int]:
        id = engine.submit(GenerationRequest(tuple(range(40, 60)), Sampling(30)))
        return [token async for delta in engine.stream(id) for token in delta.token_ids]

    first = asyncio.run(work())
    assert asyncio.run(work()) == first
    engine.close()


def test_scores_on_the_gpu_are_near_those_of_the_cpu(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "reviews")
    scores = []
    for device in ("cuda", "cpu"):
        with shelf.verified(folder, task="classify") as verified:
            classifier = Classifier(load(verified, device=device, threads=1))
        scores.append(asyncio.run(classifier.classify(["a fine film"]))[0]["positive"])
        classifier.close()
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
