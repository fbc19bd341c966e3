"""Texts as an encoder takes them: token ids within the model's limits, or a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from inference.engine.bert_forward import Ids
from inference.errors import RequestError
from inference.loader import LoadedModel
from registry.errors import TemplateRefusedError

_PARAM: Final = "input"
# A text of more characters for each token that fits is refused before it is read: a tokenizer that
# makes one token of an endless word would work for long over a text that says nothing.
_CHARACTERS_PER_TOKEN: Final = 64
# Less is tokenised in less time than it takes to hand it to a thread: some tenths of a millisecond.
_FEW_CHARACTERS: Final = 1024


class TextInput:
    """Reads the `input` of a request for one model."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._tokenizer = loaded.tokenizer
        self._limit = loaded.serving.max_context
        self._vocabulary = loaded.vocabulary
        # What the model wants around a text, and nothing between.
        self._frame = len(self._tokenizer.encode("", add_special=True))

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Return the token ids of each text, with what the model wants around it.

        Raises `RequestError` for no text, an empty one, and one longer than the model reads.
        """
        self._check_some(texts)
        return [self._read(number, text) for number, text in enumerate(texts)]

    async def read(self, texts: Sequence[str]) -> list[Ids]:
        """Like `encode`, on a thread where it takes long: other calls must not wait for it."""
        if sum(map(len, texts)) <= _FEW_CHARACTERS:
            return self.encode(texts)
        return await asyncio.to_thread(self.encode, texts)

    def check(self, texts: Sequence[Sequence[int]]) -> list[Ids]:
        """Return texts that came as token ids: they are read as they are, nothing is added.

        Raises `RequestError` for none, too many, and ids that the model does not know.
        """
        self._check_some(texts)
        for number, ids in enumerate(texts):
            self._check_length(number, len(ids))
            strange = next((id for id in ids if not 0 <= id < self._vocabulary), None)
            if strange is not None:
                raise RequestError(
                    f"text {number} has the token {strange}, this model knows 0 to "
                    f"{self._vocabulary - 1}",
                    param=_PARAM,
                )
        return [tuple(ids) for ids in texts]

    def _read(self, number: int, text: str) -> Ids:
        most = _CHARACTERS_PER_TOKEN * self._limit
        if len(text) > most:
            raise RequestError(
                f"text {number} has {len(text)} characters, more than the {most} that may fit "
                f"into {self._limit} tokens",
                param=_PARAM,
            )
        try:
            ids = self._tokenizer.encode(text, add_special=True)
        except TemplateRefusedError as error:
            raise RequestError(f"text {number}: {error.message}", param=_PARAM) from error
        if len(ids) <= self._frame:
            raise RequestError(f"text {number} is empty: it has no tokens", param=_PARAM)
        self._check_length(number, len(ids))
        return ids

    def _check_some(self, texts: Sequence[object]) -> None:
        if not texts:
            raise RequestError("input has no text", param=_PARAM)

    def _check_length(self, number: int, tokens: int) -> None:
        if not 0 < tokens <= self._limit:
            raise RequestError(
                f"text {number} has {tokens} tokens, this model reads 1 to {self._limit}",
                param=_PARAM,
            )
