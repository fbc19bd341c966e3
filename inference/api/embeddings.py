"""`POST /v1/embeddings`: OpenAI's shapes around unit vectors."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Sequence

from inference.api.encoder_bodies import EmbeddingsRequest
from inference.api.read_work import ReadWork
from inference.catalog import CatalogEntry
from inference.engine.bert_forward import Ids
from inference.engine.embedder import Embedder
from inference.engine.encoder import Rows
from inference.errors import RequestError


class EmbedWork(ReadWork):
    """One call for embeddings: a `Work` that reads tokens and makes none."""

    def __init__(
        self, entry: CatalogEntry, embedder: Embedder, encoded: Sequence[Ids], *, as_base64: bool
    ) -> None:
        ids = tuple(token for text in encoded for token in text)
        super().__init__(len(ids), ids)
        self._entry = entry
        self._embedder = embedder
        self._encoded = encoded
        self._as_base64 = as_base64

    async def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as one piece."""
        rows = await self._timed(self._embedder.embed(self._encoded))
        vectors = told(rows, as_base64=self._as_base64)
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        yield json.dumps(
            {
                "object": "list",
                "data": data,
                "model": self._entry.name,
                "usage": self.told_usage(),
            }
        ).encode()


def told(rows: Rows, *, as_base64: bool) -> list[str] | list[list[float]]:
    """Return vectors as they are told: numbers, or base64 of little-endian single precision."""
    if not as_base64:
        numbers: list[list[float]] = rows.tolist()
        return numbers
    return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in rows]


async def prepare(entry: CatalogEntry, ask: EmbeddingsRequest) -> EmbedWork:
    """Return the work of a request. Raises `RequestError` that names the field at fault."""
    embedder = entry.engine
    if not isinstance(embedder, Embedder):
        raise RequestError(f"model {entry.name} does not embed", param="model")
    if ask.dimensions not in (None, embedder.width):
        raise RequestError(
            f"dimensions is {ask.dimensions}, this model's vectors have {embedder.width}",
            param="dimensions",
        )
    texts = [item for item in ask.input if isinstance(item, str)]
    tokens = [item for item in ask.input if not isinstance(item, str)]
    encoded = await embedder.read(texts) if texts else embedder.check(tokens)
    return EmbedWork(entry, embedder, encoded, as_base64=ask.encoding_format == "base64")
