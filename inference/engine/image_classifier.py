"""An image classifier: labels and scores for pictures, decoded within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch

from inference.engine.classifier import scores
from inference.engine.facts import EngineStats
from inference.engine.image import check, decode
from inference.engine.image_header import Format
from inference.engine.image_recipe import Pixels
from inference.engine.lanes import open_encoder
from inference.engine.worker import Worker
from inference.errors import LoadRefusedError, UnavailableError
from inference.loader import LoadedModel

# One picture is decoded at a time, some 48 MiB; those that wait take their files' size each.
_MAX_DECODING: Final = 16


class ImageClassifier:
    """Classifies images with a loaded vision model.

    `input_tokens` is what every image counts: its patches, and the token that gathers them.
    """

    def __init__(self, loaded: LoadedModel, *, queue_limit: int = 64) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model that does not classify images."""
        if not loaded.labels or loaded.recipe is None:
            raise LoadRefusedError("config.json", "is not of a model to classify images")
        self.input_tokens: int = loaded.serving.max_context
        self._labels = loaded.labels
        self._module = loaded.module
        self._device = loaded.torch_device
        self._recipe = loaded.recipe
        self._decoding = 0
        self._decoder = Worker(f"decoder-{loaded.name}", threads=1)
        self._encoder, self.facts = open_encoder(
            loaded, self._logits, cost=lambda _: self.input_tokens, queue_limit=queue_limit
        )

    async def read(self, file: bytes, named: Format | None = None) -> Pixels:
        """Return a file's picture as the model sees it: (3, height, width).

        `named` is the format its sender says it has. Raises `RequestError` that names `image`,
        `UnavailableError` when too many wait to be decoded.
        """
        check(file, named)
        if self._decoding >= _MAX_DECODING:
            raise UnavailableError(
                f"{self._decoding} images are being decoded already",
                hint="Try again in a few seconds.",
            )
        self._decoding += 1
        try:
            job = self._decoder.call(lambda: self._recipe.prepare(decode(file, named)))
            return await asyncio.wrap_future(job)
        finally:
            self._decoding -= 1

    async def score(self, images: Sequence[Pixels]) -> list[dict[str, float]]:
        """Return for each image its labels with scores that add up to one.

        Raises `UnavailableError` when too many calls wait or the classifier was closed,
        `GenerationError` when the model fails.
        """
        return scores(await self._encoder.run(images), self._labels)

    def stats(self) -> EngineStats:
        """Return what the classifier does now and did so far."""
        return self._encoder.stats()

    def close(self) -> None:
        """End the threads after what they do; waiting calls end with `UnavailableError`."""
        self._decoder.close()
        self._encoder.close()

    def _logits(self, images: Sequence[Pixels]) -> torch.Tensor:
        pixels = torch.from_numpy(np.stack(images)).to(self._device)
        logits: torch.Tensor = self._module(pixel_values=pixels).logits
        return logits
