"""A text classifier: labels and scores for texts, computed on the same kind of thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import torch

from inference.engine.facts import EngineFacts, facts_of
from inference.engine.worker import Worker
from inference.errors import GenerationError, LoadRefusedError, RequestError, UnavailableError
from inference.loader import LoadedModel
from registry.errors import TemplateRefusedError


class Classifier:
    """Classifies texts with a loaded sequence classifier.

    Each text goes through the model alone, so that its scores depend on nothing but itself.
    """

    def __init__(self, loaded: LoadedModel, *, queue_limit: int = 64) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model that does not classify."""
        if not loaded.labels:
            raise LoadRefusedError("config.json", "is not of a model to classify")
        self._loaded = loaded
        self._queue_limit = queue_limit
        self._under_way = 0
        self._worker = Worker(f"classifier-{loaded.name}", threads=loaded.threads)
        self.facts: EngineFacts = facts_of(
            dtype=loaded.dtype, device=loaded.device, threads=loaded.threads
        )

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the token ids of each text.

        Raises `RequestError` for no text, or one that is longer than the model reads.
        """
        if not texts:
            raise RequestError("input has no text", param="input")
        limit = self._loaded.serving.max_context
        try:
            encoded = [self._loaded.tokenizer.encode(text, add_special=True) for text in texts]
        except TemplateRefusedError as error:
            raise RequestError(error.message, param="input") from error
        for index, ids in enumerate(encoded):
            if not 0 < len(ids) <= limit:
                raise RequestError(
                    f"text {index} has {len(ids)} tokens, this model reads 1 to {limit}",
                    param="input",
                )
        return encoded

    async def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """Return for each text its labels with scores that add up to one.

        Raises `RequestError` like `encode`, `UnavailableError` when too many calls wait or the
        classifier was closed, `GenerationError` when the model fails.
        """
        return await self.score(self.encode(texts))

    async def score(self, encoded: Sequence[tuple[int, ...]]) -> list[dict[str, float]]:
        """Like `classify`, for texts that `encode` has read already."""
        if self._under_way >= self._queue_limit:
            raise UnavailableError(
                f"{self._under_way} calls are waiting already", hint="Try again in a few seconds."
            )
        self._under_way += 1
        try:
            job = self._worker.call(lambda: [self._scores(ids) for ids in encoded])
            return await asyncio.wrap_future(job)
        finally:
            self._under_way -= 1

    def close(self) -> None:
        """End the thread after the call it is in; waiting calls end with `UnavailableError`."""
        self._worker.close()

    def _scores(self, ids: tuple[int, ...]) -> dict[str, float]:
        try:
            with torch.inference_mode():
                inputs = torch.tensor([ids], dtype=torch.long, device=self._loaded.torch_device)
                logits = self._loaded.module(input_ids=inputs).logits[0].double().cpu()
                scores: list[float] = torch.softmax(logits, dim=-1).tolist()
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for all of its own
            raise GenerationError(f"the forward pass failed: {error!s:.200}") from error
        if not torch.isfinite(logits).all():
            raise GenerationError("the model computed scores that are not numbers")
        return dict(zip(self._loaded.labels, scores, strict=True))
