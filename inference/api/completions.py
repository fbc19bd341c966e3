"""`POST /v1/completions`: texts continued as they are, in OpenAI's older shape."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from typing import Any

from inference.api.completion_body import CompletionRequest
from inference.api.logprobs import CompletionLogprobs, joined
from inference.api.plan import plan_completion
from inference.api.text_work import TextWork
from inference.catalog import CatalogEntry
from inference.engine.generator import Generator
from inference.engine.sampling import MAX_SEED
from inference.engine.sequence import Delta
from inference.errors import RequestError


class CompletionWork(TextWork):
    """The answers to one completion request, numbered prompt by prompt."""

    kind = "text_completion"
    chunk_kind = "text_completion"
    prefix = "cmpl-"
    field = "prompt"

    def __init__(self, entry: CatalogEntry, engine: Generator, ask: CompletionRequest) -> None:
        """Plan a request. Raises `RequestError` that names the field at fault."""
        plan = plan_completion(ask, entry.loaded, seed=secrets.randbelow(MAX_SEED + 1))
        super().__init__(entry, engine, ask, plan)
        texts, listed = self._texts, ask.logprobs or 0
        self._makers = [
            None if texts is None else CompletionLogprobs(texts, listed=listed)
            for _ in range(plan.answers)
        ]

    async def _whole(self, told: AsyncGenerator[tuple[int, Delta], None]) -> bytes:
        texts = ["" for _ in self._makers]
        reasons: list[str | None] = [None for _ in self._makers]
        pieces: list[list[dict[str, Any]]] = [[] for _ in self._makers]
        async for number, delta in told:
            texts[number] += delta.text
            reasons[number] = delta.finish_reason
            if (maker := self._makers[number]) is not None:
                pieces[number].append(maker.take(delta.choices))
        choices = [
            _choice(number, text, reasons[number], joined(pieces[number]) or None)
            for number, text in enumerate(texts)
        ]
        whole = self._object(self.kind, choices, usage=self._usage())
        return json.dumps(whole, ensure_ascii=False).encode()

    async def _chunks(
        self, told: AsyncGenerator[tuple[int, Delta], None]
    ) -> AsyncGenerator[bytes, None]:
        async for number, delta in told:
            maker = self._makers[number]
            logprobs = None if maker is None else maker.take(delta.choices)
            if delta.text or delta.finish_reason or (logprobs and logprobs["tokens"]):
                yield self._chunk(_choice(number, delta.text, delta.finish_reason, logprobs))
        if self._ask.include_usage:
            yield self._usage_chunk()


async def prepare(entry: CatalogEntry, ask: CompletionRequest) -> CompletionWork:
    """Return the work of a request. Raises `RequestError` when it cannot fit the model."""
    if not isinstance(entry.engine, Generator):
        raise RequestError(f"model {entry.name} does not complete texts", param="model")
    return await asyncio.to_thread(CompletionWork, entry, entry.engine, ask)


def _choice(
    number: int, text: str, reason: str | None, logprobs: dict[str, Any] | None
) -> dict[str, Any]:
    return {"index": number, "text": text, "finish_reason": reason, "logprobs": logprobs}
