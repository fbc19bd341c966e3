"""`POST /v1/classify`: labels and scores for one or more texts, or for an image."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from inference.api.encoder_bodies import ClassifyRequest
from inference.api.read_work import ReadWork
from inference.catalog import CatalogEntry
from inference.engine.classifier import Classifier, best
from inference.engine.image_classifier import ImageClassifier
from inference.engine.image_header import Format
from inference.errors import RequestError

_DATA_URL: Final = re.compile(r"data:([a-z]+/[a-z0-9.+-]+);base64,(.*)", re.DOTALL)
_TYPES: Final = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


class ClassifyWork(ReadWork):
    """One classification: a `Work` that reads tokens, or an image's patches, and makes none."""

    def __init__(
        self,
        entry: CatalogEntry,
        score: Callable[[], Awaitable[list[dict[str, float]]]],
        input_tokens: int,
        input_ids: tuple[int, ...],
    ) -> None:
        super().__init__(input_tokens, input_ids)
        self._entry = entry
        self._score = score

    async def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as one piece."""
        results = await self._timed(self._score())
        data = [
            {"index": index, "label": best(scores), "scores": scores}
            for index, scores in enumerate(results)
        ]
        yield json.dumps(
            {
                "id": "classify-" + secrets.token_hex(12),
                "object": "list",
                "created": int(time.time()),
                "model": self._entry.name,
                "data": data,
                "usage": self.told_usage(),
            }
        ).encode()


async def prepare(entry: CatalogEntry, ask: ClassifyRequest) -> ClassifyWork:
    """Return the work of a request.

    Raises `RequestError` that names the field at fault, `UnavailableError` when too many images
    wait to be decoded.
    """
    engine = entry.engine
    if isinstance(engine, ImageClassifier):
        return await _see(entry, engine, ask)
    if not isinstance(engine, Classifier):
        raise RequestError(f"model {entry.name} does not classify", param="model")
    if ask.image is not None:
        raise RequestError(f"image: model {entry.name} reads texts", param="image")
    if ask.input is None:
        raise RequestError("input: a text to classify is missing", param="input")
    encoded = await engine.read(ask.input)
    ids = tuple(token for text in encoded for token in text)
    return ClassifyWork(entry, lambda: engine.score(encoded), len(ids), ids)


async def _see(entry: CatalogEntry, engine: ImageClassifier, ask: ClassifyRequest) -> ClassifyWork:
    if ask.input is not None:
        raise RequestError(f"input: model {entry.name} reads images", param="input")
    if ask.image is None:
        raise RequestError("image: an image to classify is missing", param="image")
    file, named = await asyncio.to_thread(read_image_field, ask.image)
    pixels = await engine.read(file, named)
    return ClassifyWork(entry, lambda: engine.score([pixels]), engine.input_tokens, ())


def read_image_field(text: str) -> tuple[bytes, Format | None]:
    """Return a file from base64 or a data URL, and the format that the URL names.

    Raises `RequestError`; nothing is ever fetched.
    """
    named: Format | None = None
    if found := _DATA_URL.fullmatch(text):
        kind, text = found.groups()
        if kind not in _TYPES:
            raise RequestError(
                f"image: {kind} is not read, only {', '.join(_TYPES)}", param="image"
            )
        named = Format(_TYPES[kind])
    try:
        return base64.b64decode(text, validate=True), named
    except (binascii.Error, ValueError) as error:
        raise RequestError(
            "image: is neither base64 nor a data URL with base64; other URLs are not fetched",
            param="image",
        ) from error
