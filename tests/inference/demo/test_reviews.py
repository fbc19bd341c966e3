"""The training example really learns, from the same bytes every time."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from inference.demo.models import prepare_minilm
from inference.demo.reviews import (
    HELD_OUT_SIZE,
    LABELS,
    TRAIN_SIZE,
    Recipe,
    fine_tune,
    write_dataset,
)
from inference.loader import load
from registry.hashing.dataset import hash_folder
from registry.manifest_rules import check_metrics
from tests.inference.shelf import Shelf

CACHE = Path(__file__).parents[3] / ".cache" / "models"


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_dataset_is_the_same_every_time_and_fair(tmp_path: Path) -> None:
    for name in ("once", "again"):
        write_dataset(tmp_path / name)
    assert hash_folder(tmp_path / "once").root == hash_folder(tmp_path / "again").root
    train, held_out = (rows(tmp_path / "once" / f"{n}.jsonl") for n in ("train", "held_out"))
    for part, size in ((train, TRAIN_SIZE), (held_out, HELD_OUT_SIZE)):
        assert [sum(row["label"] == label for row in part) for label in LABELS] == [size // 2] * 2
    texts = [row["text"] for row in train + held_out]
    assert len(set(texts)) == len(texts)


def test_a_few_dozen_steps_beat_chance_on_sentences_not_seen(tmp_path: Path, shelf: Shelf) -> None:
    write_dataset(tmp_path / "reviews")
    recipe, steps = Recipe(), []
    metrics = fine_tune(
        base=prepare_minilm(CACHE / "minilm"),
        dataset=tmp_path / "reviews",
        target=tmp_path / "tuned",
        recipe=recipe,
        progress=steps.append,
    )
    check_metrics(metrics)
    assert len(steps) == recipe.steps
    assert 0.4 < float(metrics["accuracy_before"]) < 0.6
    # 400 sentences: chance is 0.5 with a standard deviation of 0.025.
    assert float(metrics["accuracy"]) > 0.65
    with shelf.verified(tmp_path / "tuned", task="classify") as verified:
        loaded = load(verified, device="cpu", threads=1)
    assert loaded.labels == LABELS
    assert loaded.dtype == "F32"
    ids = loaded.tokenizer.encode("a moving , beautiful and funny film .", add_special=True)
    logits = loaded.module(torch.tensor([ids])).logits[0]
    assert logits[1] > logits[0]


def test_the_recipe_is_stated_in_full() -> None:
    text = Recipe().to_text()
    assert text["learning_rate"] == "0.0002"
    assert text["steps"] == "32"
    assert all(isinstance(value, str) for value in text.values())
