"""A text classifier: labels and scores for texts, computed in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inference.engine.bert_forward import BertForward, Ids
from inference.engine.encoder import Rows
from inference.engine.facts import EngineStats
from inference.engine.lanes import open_encoder
from inference.engine.text_input import TextInput
from inference.errors import LoadRefusedError
from inference.loader import LoadedModel


class Classifier:
    """Classifies texts with a loaded sequence classifier.

    A text's scores depend on the text and the weights. Texts of all calls are computed together
    (`inference.engine.encoder` says what that can change: the last digits, less than 1e-5 in
    single precision); a text that is computed alone has the same scores to the bit each time.
    """

    def __init__(self, loaded: LoadedModel, *, queue_limit: int = 64) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model that does not classify."""
        if not loaded.labels:
            raise LoadRefusedError("config.json", "is not of a model to classify")
        self._labels = loaded.labels
        self._module: Any = loaded.module
        self._input = TextInput(loaded)
        self._bert = BertForward(loaded.module.bert, loaded.torch_device)
        self._encoder, self.facts = open_encoder(
            loaded, self._logits, cost=len, queue_limit=queue_limit
        )

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text.

        Raises `RequestError` for no text, an empty one, or one longer than the model reads.
        """
        return self._input.encode(texts)

    async def read(self, texts: Sequence[str]) -> list[Ids]:
        """Like `encode`, for an event loop: many texts are read on a thread."""
        return await self._input.read(texts)

    async def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return for each text its labels with scores that add up to one.

        Raises `RequestError` like `encode`, `UnavailableError` when too many calls wait or the
        classifier was closed, `GenerationError` when the model fails.
        """
        return await self.score(self.encode(texts))

    async def score(self, encoded: Sequence[Ids]) -> list[dict[str, float]]:
        """Like `classify`, for texts that `encode` has read already."""
        return scores(await self._encoder.run(encoded), self._labels)

    def stats(self) -> EngineStats:
        """Return what the classifier does now and did so far."""
        return self._encoder.stats()

    def close(self) -> None:
        """End the threads after their batches; waiting calls end with `UnavailableError`."""
        self._encoder.close()

    def _logits(self, texts: Sequence[Ids]) -> torch.Tensor:
        pooled = self._module.bert.pooler(self._bert(texts).firsts()[:, None])
        logits: torch.Tensor = self._module.classifier(pooled)
        return logits


def scores(logits: Rows, labels: Sequence[str]) -> list[dict[str, float]]:
    """Return the softmax of each row of finite logits, by label."""
    rows: list[list[float]] = torch.softmax(torch.from_numpy(logits), dim=-1).tolist()
    return [dict(zip(labels, row, strict=True)) for row in rows]


def best(found: Mapping[str, float]) -> str:
    """Return the label with the highest score; the first of several."""
    return max(found, key=lambda name: found[name])
