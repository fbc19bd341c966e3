"""An embedder: unit vectors for texts, the means of a BERT's last hidden states.

That is how all-MiniLM-L6-v2 and most sentence encoders are made and meant: the mean over a text's
tokens, those around it included, divided by its length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from inference.engine.bert_forward import BertForward, Ids
from inference.engine.encoder import Rows
from inference.engine.facts import EngineStats
from inference.engine.lanes import open_encoder
from inference.engine.text_input import TextInput
from inference.errors import LoadRefusedError
from inference.loader import LoadedModel


class Embedder:
    """Embeds texts with a loaded encoder; what `inference.engine.encoder` says of results holds.

    `width` is the number of dimensions.
    """

    def __init__(self, loaded: LoadedModel, *, queue_limit: int = 64) -> None:
        """Serve `loaded`. Raises `LoadRefusedError` for a model that does not embed."""
        if loaded.task != "embed":
            raise LoadRefusedError("config.json", "is not of a model to embed")
        self.width: int = loaded.module.config.hidden_size
        self._input = TextInput(loaded)
        self._bert = BertForward(loaded.module, loaded.torch_device)
        self._encoder, self.facts = open_encoder(
            loaded, self._vectors, cost=len, queue_limit=queue_limit
        )

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text. Raises `RequestError` like `TextInput.encode`."""
        return self._input.encode(texts)

    async def read(self, texts: Sequence[str]) -> list[Ids]:
        """Like `encode`, for an event loop: many texts are read on a thread."""
        return await self._input.read(texts)

    def check(self, texts: Sequence[Sequence[int]]) -> list[Ids]:
        """Return texts that are token ids already. Raises `RequestError` like `TextInput.check`."""
        return self._input.check(texts)

    async def embed(self, encoded: Sequence[Ids]) -> Rows:
        """Return one unit vector for each text: (texts, width), float64.

        Raises `UnavailableError` when too many calls wait or the embedder was closed,
        `GenerationError` when the model fails.
        """
        return await self._encoder.run(encoded)

    def stats(self) -> EngineStats:
        """Return what the embedder does now and did so far."""
        return self._encoder.stats()

    def close(self) -> None:
        """End the threads after their batches; waiting calls end with `UnavailableError`."""
        self._encoder.close()

    def _vectors(self, texts: Sequence[Ids]) -> torch.Tensor:
        return normalize(self._bert(texts).means(), dim=1)
