"""`POST /v1/chat/completions`: OpenAI's shapes around the engine's tokens."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from inference.api.chat_body import ChatRequest
from inference.api.logprobs import chat_entries
from inference.api.plan import TextPlan, plan_chat
from inference.api.text_work import TextWork
from inference.api.tool_calls import Call, PlainReader, Reader, Said, reader_of
from inference.catalog import CatalogEntry
from inference.engine.generator import Generator
from inference.engine.sampling import MAX_SEED
from inference.engine.sequence import Delta
from inference.errors import RequestError


class ChatWork(TextWork):
    """The answers to one chat request."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    prefix = "chatcmpl-"
    field = "messages"

    def __init__(self, entry: CatalogEntry, engine: Generator, ask: ChatRequest) -> None:
        """Plan a request. Raises `RequestError` that names the field at fault."""
        # Without a seed of the caller's the node draws one and states it in the receipt.
        plan = plan_chat(ask, entry.loaded, seed=secrets.randbelow(MAX_SEED + 1))
        super().__init__(entry, engine, ask, plan)
        names = {tool.function.name for tool in ask.offered_tools()}
        self._messages = [_Message(_reader(plan, names)) for _ in range(plan.answers)]

    async def _whole(self, told: AsyncGenerator[tuple[int, Delta], None]) -> bytes:
        entries: list[list[Any]] = [[] for _ in self._messages]
        async for number, delta in told:
            self._messages[number].take(delta)
            if self._texts is not None:
                entries[number] += chat_entries(self._texts, delta.choices)
        choices = [
            {
                "index": number,
                "message": message.whole(),
                "finish_reason": message.reason,
                "logprobs": self._logprobs(entries[number]),
            }
            for number, message in enumerate(self._messages)
        ]
        whole = self._object(self.kind, choices, usage=self._usage())
        return json.dumps(whole, ensure_ascii=False).encode()

    async def _chunks(
        self, told: AsyncGenerator[tuple[int, Delta], None]
    ) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        async for number, delta in told:
            if number not in begun:
                begun.add(number)
                yield self._delta(number, {"role": "assistant", "content": ""})
            message = self._messages[number]
            said = message.take(delta)
            entries = [] if self._texts is None else chat_entries(self._texts, delta.choices)
            if said.text or entries:
                yield self._delta(number, {"content": said.text}, entries)
            for place, call in enumerate(said.calls, len(message.calls) - len(said.calls)):
                yield self._delta(number, {"tool_calls": [{"index": place, **_call(call)}]})
            if message.reason:
                yield self._delta(number, {}, reason=message.reason)
        if self._ask.include_usage:
            yield self._usage_chunk()

    def _delta(
        self,
        number: int,
        delta: dict[str, Any],
        entries: Sequence[Any] = (),
        reason: str | None = None,
    ) -> bytes:
        choice = {
            "index": number,
            "delta": delta,
            "finish_reason": reason,
            "logprobs": self._logprobs(entries) if entries else None,
        }
        return self._chunk(choice)

    def _logprobs(self, entries: Sequence[Any]) -> dict[str, Any] | None:
        return None if self._texts is None else {"content": entries, "refusal": None}


class _Message:
    """One answer so far: its text, its calls, why it ended."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._text = ""
        self.calls: list[Call] = []
        self.reason = ""

    def take(self, delta: Delta) -> Said:
        """Take what the engine made; return what became certain with it."""
        said = self._reader.push(delta.text)
        if delta.finish_reason is not None:
            rest = self._reader.finish()
            said = Said(said.text + rest.text, said.calls + rest.calls)
        self._text += said.text
        self.calls += said.calls
        if delta.finish_reason is not None:
            called = self.calls and delta.finish_reason == "stop"
            self.reason = "tool_calls" if called else delta.finish_reason
        return said

    def whole(self) -> dict[str, Any]:
        """Return the message of a whole answer."""
        content = self._text if self._text or not self.calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self.calls:
            message["tool_calls"] = [_call(call) for call in self.calls]
        return message


async def prepare(entry: CatalogEntry, ask: ChatRequest) -> ChatWork:
    """Return the work of a chat request. Raises `RequestError` when it cannot fit the model."""
    if not isinstance(entry.engine, Generator):
        raise RequestError(f"model {entry.name} does not chat", param="model")
    # Long prompts and large schemas take a while to read: other calls must not wait for that.
    return await asyncio.to_thread(ChatWork, entry, entry.engine, ask)


def _reader(plan: TextPlan, names: set[str]) -> Reader:
    return reader_of(plan.tool_format, names) if plan.tool_format else PlainReader()


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
