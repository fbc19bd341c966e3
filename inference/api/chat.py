"""`POST /v1/chat/completions`: OpenAI's shapes around the engine's tokens."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from decimal import Decimal

from inference.api.schemas import ChatRequest
from inference.api.sse import DONE, event
from inference.catalog import CatalogEntry
from inference.engine.engine import TextEngine
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import NodeError, RequestError
from inference.payments.pricing import Usage


class ChatWork:
    """One chat answer: a `Work`. Not streamed, it yields the whole completion as one piece."""

    def __init__(self, entry: CatalogEntry, engine: TextEngine, ask: ChatRequest) -> None:
        self._engine = engine
        self._entry = entry
        self._ask = ask
        self._id = "chatcmpl-" + secrets.token_hex(12)
        self._created = int(time.time())
        self._delivered: list[int] = []
        self._finish = "cancelled"
        self.streams = ask.stream
        self.input_ids = engine.encode_chat([message.plain() for message in ask.messages])
        self.input_tokens = len(self.input_ids)
        self.max_output_tokens = ask.limit()
        engine.check_length(self.input_tokens, self.max_output_tokens)
        # Without a seed of the caller's the node draws one and states it in the receipt.
        self._sampling = sampling_of(ask, seed=secrets.randbelow(2**53))

    @property
    def usage(self) -> Usage:
        """Return tokens read and tokens delivered."""
        return Usage(self.input_tokens, len(self._delivered))

    @property
    def output_ids(self) -> tuple[int, ...]:
        """Return the tokens delivered so far."""
        return tuple(self._delivered)

    @property
    def sampling(self) -> Sampling:
        """Return what a replay needs."""
        return self._sampling

    @property
    def finish(self) -> str:
        """Return why the answer ended; `cancelled` until the model itself ended it."""
        return self._finish

    async def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield the completion, or its chunks as they are made."""
        request = self._engine.submit(GenerationRequest(self.input_ids, self._sampling))
        try:
            if self.streams:
                yield self._chunk({"role": "assistant", "content": ""})
                async for piece in self._chunks(request):
                    yield piece
            else:
                yield await self._whole(request)
        finally:
            self._engine.cancel(request)

    async def _whole(self, request: str) -> bytes:
        text = ""
        async for delta in self._engine.stream(request):
            text += delta.text
            self._delivered.extend(delta.token_ids)
            self._finish = delta.finish_reason or self._finish
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": self._finish, "logprobs": None}
        return json.dumps(
            self._object("chat.completion", [choice], usage=self._usage()), ensure_ascii=False
        ).encode()

    async def _chunks(self, request: str) -> AsyncIterator[bytes]:
        async for delta in self._engine.stream(request):
            self._delivered.extend(delta.token_ids)
            if delta.text:
                yield self._chunk({"content": delta.text})
            if delta.finish_reason:
                self._finish = delta.finish_reason
                yield self._chunk({}, finish=delta.finish_reason)
        if self._ask.stream_options and self._ask.stream_options.include_usage:
            yield event(self._object("chat.completion.chunk", [], usage=self._usage()))

    def failing(self, failure: NodeError) -> bytes:
        """Return the error event that OpenAI's clients raise from."""
        return event({"error": {"message": failure.message, "code": failure.code}})

    def closing(self, bundle: Mapping[str, object]) -> bytes:
        """Return a chunk without choices that carries the receipt, and the end mark."""
        chunk = self._object("chat.completion.chunk", [])
        return event({**chunk, "weightproof": bundle}) + DONE

    def _chunk(self, delta: Mapping[str, str], *, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event(self._object("chat.completion.chunk", [choice]))

    def _object(self, kind: str, choices: list[object], **more: object) -> dict[str, object]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._entry.name,
            "choices": choices,
            **more,
        }

    def _usage(self) -> dict[str, int]:
        used = self.usage
        return {
            "prompt_tokens": used.input_tokens,
            "completion_tokens": used.output_tokens,
            "total_tokens": used.input_tokens + used.output_tokens,
        }


async def prepare(entry: CatalogEntry, ask: ChatRequest) -> ChatWork:
    """Return the work of a chat request. Raises `RequestError` when it cannot fit the model."""
    if not isinstance(entry.engine, TextEngine):
        raise RequestError(f"model {entry.name} does not chat", param="model")
    # Long prompts take milliseconds to tokenise: other calls must not wait for that.
    return await asyncio.to_thread(ChatWork, entry, entry.engine, ask)


def sampling_of(ask: ChatRequest, *, seed: int) -> Sampling:
    """Return how a request's tokens are drawn; `seed` where it names none of its own."""
    return Sampling(
        max_tokens=ask.limit(),
        temperature=Decimal(1) if ask.temperature is None else ask.temperature,
        top_p=Decimal(1) if ask.top_p is None else ask.top_p,
        top_k=ask.top_k or 0,
        seed=seed if ask.seed is None else ask.seed,
        stop=ask.stops(),
    )
