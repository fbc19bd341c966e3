"""`POST /v1/classify`: labels and scores for one or more texts."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Mapping

from inference.api.schemas import ClassifyRequest
from inference.api.sse import DONE, event
from inference.catalog import CatalogEntry
from inference.engine.classifier import Classifier
from inference.errors import NodeError, RequestError
from inference.payments.pricing import Usage


class ClassifyWork:
    """One classification: a `Work` that reads tokens and makes none."""

    streams = False
    max_output_tokens = 0

    def __init__(self, entry: CatalogEntry, classifier: Classifier, ask: ClassifyRequest) -> None:
        self._entry = entry
        self._classifier = classifier
        self._encoded = classifier.encode(ask.texts())
        self.input_ids = tuple(token for ids in self._encoded for token in ids)
        self.input_tokens = len(self.input_ids)

    @property
    def usage(self) -> Usage:
        """Return the tokens read."""
        return Usage(self.input_tokens, 0)

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Return no tokens: a classifier makes none."""
        return ()

    @property
    def sampling(self) -> None:
        """Return nothing: no token is drawn."""

    @property
    def finish(self) -> str:
        """Return none: a classification has no end to reach."""
        return "none"

    async def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as one piece."""
        results = await self._classifier.score(self._encoded)
        data = [
            {
                "index": index,
                "label": max(scores, key=lambda name: scores[name]),
                "scores": scores,
            }
            for index, scores in enumerate(results)
        ]
        yield json.dumps(
            {
                "id": "classify-" + secrets.token_hex(12),
                "object": "list",
                "created": int(time.time()),
                "model": self._entry.name,
                "data": data,
                "usage": {"prompt_tokens": self.input_tokens, "total_tokens": self.input_tokens},
            }
        ).encode()

    def failing(self, failure: NodeError) -> bytes:
        """Return the error as an event; classifications are not streamed today."""
        return event({"error": {"message": failure.message, "code": failure.code}})

    def closing(self, bundle: Mapping[str, object]) -> bytes:
        """Return the receipt as an event."""
        return event({"weightproof": bundle}) + DONE


async def prepare(entry: CatalogEntry, ask: ClassifyRequest) -> ClassifyWork:
    """Return the work of a request. Raises `RequestError` when a text is too long."""
    if not isinstance(entry.engine, Classifier):
        raise RequestError(f"model {entry.name} does not classify", param="model")
    return await asyncio.to_thread(ClassifyWork, entry, entry.engine, ask)
