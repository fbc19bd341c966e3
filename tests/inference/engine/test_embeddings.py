"""Vectors of the real MiniLM equal to transformers' own, however their texts are batched."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from inference.demo.models import prepare_minilm
from inference.engine.embedder import Embedder
from inference.errors import GenerationError, LoadRefusedError, RequestError
from inference.loader import LoadedModel, load
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

CACHE = Path(__file__).parents[3] / ".cache" / "models"
TEXTS = [
    "That is a happy person",
    "That is a happy dog",
    "Ein Satz auf Deutsch, mit Umlauten: äöü.",
    "a",
    "That is a very happy person",
    "word " * 300,
    "The weights of a model are numbers; " * 9,
    "日本語のテキスト 🌍",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return prepare_minilm(CACHE / "minilm")


@pytest.fixture(scope="module")
def embedder(shelf: Shelf, folder: Path) -> Iterator[Embedder]:
    with shelf.verified(folder, task="embed") as verified:
        running = Embedder(load(verified, device="cpu", threads=1))
    yield running
    running.close()


@pytest.fixture
def tiny(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    with shelf.verified(tiny_models.bert(tmp_path / "encoder"), task="embed") as verified:
        return load(verified, device="cpu", threads=1)


def embed(embedder: Embedder, texts: list[str]) -> Any:
    return asyncio.run(embedder.embed(embedder.encode(texts)))


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[Any]:
    """What the model's card says how to compute, by transformers, one text after another."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder)
    found = []
    for text in TEXTS:
        inputs = tokenizer(text, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        mean = (states * mask).sum(1) / mask.sum(1)
        found.append(torch.nn.functional.normalize(mean, p=2, dim=1)[0].numpy())
    return found


# What is refused


def test_a_model_that_does_not_embed_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "reviews")
    with shelf.verified(folder, task="classify") as verified:
        loaded = load(verified, device="cpu", threads=1)
    with pytest.raises(LoadRefusedError, match="not of a model to embed"):
        Embedder(loaded)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "no text"),
        (["good", "  \n "], "text 1 is empty"),
        (["word " * 511], "text 0 has 513 tokens, this model reads 1 to 512"),
        (["x" * 40_000], "text 0 has 40000 characters, more than the 32768"),
    ],
)
def test_empty_and_huge_texts_are_refused(
    embedder: Embedder, texts: list[str], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        embedder.encode(texts)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([], "no text"),
        ([[101, 102], []], "text 1 has 0 tokens"),
        ([[101, -1]], "text 0 has the token -1"),
        ([[30522]], "text 0 has the token 30522, this model knows 0 to 30521"),
        ([[5] * 513], "text 0 has 513 tokens"),
    ],
)
def test_token_ids_the_model_cannot_read_are_refused(
    embedder: Embedder, ids: list[list[int]], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        embedder.check(ids)
    assert caught.value.param == "input"


def test_vectors_that_are_not_numbers_end_their_call_alone(tiny: LoadedModel) -> None:
    running = Embedder(tiny)
    (spoilt,), (good,) = running.encode(["x"]), running.encode(["good"])
    tiny.module.embeddings.word_embeddings.weight.detach()[spoilt[0]].fill_(float("nan"))

    async def work() -> list[Any]:
        calls = (running.embed(texts) for texts in ([good], [good, spoilt], [good]))
        return await asyncio.gather(*calls, return_exceptions=True)

    try:
        first, broken, last = asyncio.run(work())
    finally:
        running.close()
    assert isinstance(broken, GenerationError)
    assert "not numbers" in broken.message
    assert np.isfinite(first).all()
    assert np.isfinite(last).all()


# What comes out


def test_vectors_equal_the_reference(embedder: Embedder, expected: list[Any]) -> None:
    together = embed(embedder, TEXTS)
    assert together.shape == (len(TEXTS), 384)
    for number, text in enumerate(TEXTS):
        assert np.abs(together[number] - expected[number]).max() < 1e-5
        assert np.abs(embed(embedder, [text])[0] - expected[number]).max() < 1e-5
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6


def test_vectors_do_not_depend_on_companions(embedder: Embedder) -> None:
    async def work() -> list[Any]:
        calls = (embedder.embed(embedder.encode([text])) for text in TEXTS * 4)
        return await asyncio.gather(*calls)

    at_once = asyncio.run(work())
    for number, vector in enumerate(at_once):
        alone = embed(embedder, [TEXTS[number % len(TEXTS)]])
        assert np.abs(vector - alone).max() < 1e-5


def test_a_text_alone_has_the_same_vector_each_time(embedder: Embedder) -> None:
    assert np.array_equal(embed(embedder, TEXTS[:1]), embed(embedder, TEXTS[:1]))


def test_token_ids_are_read_as_they_are(embedder: Embedder) -> None:
    (ids,) = embedder.encode(["That is a happy person"])
    assert embedder.check([list(ids)]) == [ids]
    # Nothing is put around them.
    assert embedder.check([list(ids[1:-1])]) == [ids[1:-1]]


def test_likeness_means_what_it_should(embedder: Embedder) -> None:
    person, dog, german, *_ = embed(embedder, TEXTS)
    very = embed(embedder, TEXTS)[4]
    assert person @ very > person @ dog > person @ german


def test_what_was_verified_is_what_computes(tiny: LoadedModel) -> None:
    running = Embedder(tiny)
    try:
        before = embed(running, ["abc"])
        tiny.module.encoder.layer[1].output.dense.weight.detach().mul_(1.5)
        assert not np.allclose(before, embed(running, ["abc"]))
        assert tiny.resident.changed() == "encoder.layer.1.output.dense.weight"
    finally:
        running.close()
