"""Labels and scores equal to the reference, whatever is computed beside a text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from inference.engine.classifier import Classifier
from inference.errors import GenerationError, LoadRefusedError, RequestError, UnavailableError
from inference.loader import LoadedModel, load
from registry.manifest_parts import Parent
from registry.record import Kind
from tests.inference import tiny_adapters, tiny_models
from tests.inference.shelf import Shelf

LABELS = ("bad", "good", "unsure")
TEXTS = ["a fine film", "no", "Wörter und ein längerer Satz, der mehr Tokens hat"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.bert_classifier(tmp_path_factory.mktemp("models") / "reviews", LABELS)


@pytest.fixture
def loaded(shelf: Shelf, folder: Path) -> LoadedModel:
    with shelf.verified(folder, task="classify") as verified:
        return load(verified, device="cpu", threads=1)


@pytest.fixture
def classifier(loaded: LoadedModel) -> Iterator[Classifier]:
    running = Classifier(loaded, queue_limit=2)
    yield running
    running.close()


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ([], "no text"),
        (["short", ""], "text 1 is empty"),
        (["short", "long " * 40], r"text 1 has \d+ tokens, this model reads 1 to 128"),
        (["x" * 10_000], "text 0 has 10000 characters"),
        (["\ud800"], "text 0: the text is not valid Unicode"),
    ],
)
def test_no_text_an_empty_one_and_one_that_is_too_long_are_refused(
    classifier: Classifier, texts: list[str], reason: str
) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        classifier.encode(texts)
    assert caught.value.param == "input"


def test_a_model_without_labels_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    with shelf.verified(tiny_models.bert(tmp_path / "encoder"), task="embed") as verified:
        loaded = load(verified, device="cpu", threads=1)
    with pytest.raises(LoadRefusedError, match="not of a model to classify"):
        Classifier(loaded)


def test_calls_beyond_the_queue_limit_are_refused(classifier: Classifier) -> None:
    async def work() -> list[object]:
        calls = (classifier.classify(TEXTS) for _ in range(4))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(work())
    assert [isinstance(answer, UnavailableError) for answer in answers] == [False] * 2 + [True] * 2
    assert asyncio.run(classifier.classify(["again"]))


def test_a_closed_classifier_says_so(classifier: Classifier) -> None:
    classifier.close()
    with pytest.raises(UnavailableError, match="was stopped"):
        asyncio.run(classifier.classify(TEXTS))


def test_scores_that_are_not_numbers_are_an_error(
    classifier: Classifier, loaded: LoadedModel
) -> None:
    loaded.module.classifier.weight.detach().fill_(float("inf"))
    with pytest.raises(GenerationError, match="not numbers"):
        asyncio.run(classifier.classify(TEXTS))


def test_a_text_alone_has_the_scores_of_the_reference_to_the_bit(
    classifier: Classifier, folder: Path
) -> None:
    reference = AutoModelForSequenceClassification.from_pretrained(folder)
    for text, ids in zip(TEXTS, classifier.encode(TEXTS), strict=True):
        (scores,) = asyncio.run(classifier.classify([text]))
        with torch.inference_mode():
            expected = reference(torch.tensor([ids])).logits[0].double().softmax(dim=-1)
        assert tuple(scores) == LABELS
        assert list(scores.values()) == expected.tolist()
        assert sum(scores.values()) == pytest.approx(1.0)


def test_companions_change_the_last_digits_at_most(classifier: Classifier) -> None:
    async def work() -> tuple[list[dict[str, float]], list[list[dict[str, float]]]]:
        together = await classifier.classify(TEXTS * 5)
        return together, [await classifier.classify([text]) for text in TEXTS]

    together, alone = asyncio.run(work())
    for number, scores in enumerate(together):
        assert scores == pytest.approx(alone[number % len(TEXTS)][0], abs=1e-5, rel=0)


def test_an_adapter_changes_what_is_computed_in_batches_too(
    shelf: Shelf, folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    sides = {f"bert.encoder.layer.{n}.attention.self.query": (32, 32) for n in range(2)}
    options = {"target_modules": ["query"], "task_type": "SEQ_CLS"}
    adapter = tiny_adapters.adapter(tmp_path / "adapter", sides, **options)
    parent = Parent(Kind.MODEL, loaded.model_id)
    with shelf.verified(adapter, task="classify", parents=(parent,)) as verified:
        changed = load(verified, device="cpu", threads=1)
    running = Classifier(changed)
    try:
        results = asyncio.run(running.classify(TEXTS))
        encoded = running.encode(TEXTS)
    finally:
        running.close()
    for ids, scores in zip(encoded, results, strict=True):
        with torch.inference_mode():
            inputs = torch.tensor([ids])
            expected = changed.module(inputs).logits[0].double().softmax(dim=-1).tolist()
            without = loaded.module(inputs).logits[0].double().softmax(dim=-1).tolist()
        assert list(scores.values()) == pytest.approx(expected, abs=1e-5, rel=0)
        assert list(scores.values()) != pytest.approx(without, abs=1e-3, rel=0)


def test_token_counts_include_what_the_model_wants_around_a_text(classifier: Classifier) -> None:
    assert classifier.encode(["ab"]) == [(*classifier.encode(["ab"])[0][:-1], tiny_models.END_ID)]
    assert len(classifier.encode(["ab"])[0]) == 3
