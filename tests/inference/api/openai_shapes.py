"""Answers read by OpenAI's own published types, more strictly than its client reads them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

from openai import BaseModel
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from inference.api.text_work import TextWork

PATIENCE_S = 60
_Kind = TypeVar("_Kind", bound=BaseModel)


def strict(kind: type[_Kind], value: Any) -> _Kind:
    """Read `value`; refuse fields that the type does not have, but for the receipt."""
    read = kind.model_validate(value, strict=True)
    _refuse_extra(read, {"weightproof"})
    return read


def _refuse_extra(value: object, known: set[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _refuse_extra(item, set())
    if isinstance(value, BaseModel):
        extra = set(value.model_extra or {}) - known
        assert not extra, f"{type(value).__name__} has {extra}"
        for name in type(value).model_fields:
            _refuse_extra(getattr(value, name), set())


def performed(work: TextWork) -> list[bytes]:
    """Perform a work to its end; return its pieces."""

    async def go() -> list[bytes]:
        return [piece async for piece in work.perform()]

    return asyncio.run(asyncio.wait_for(go(), PATIENCE_S))


def whole(work: TextWork) -> ChatCompletion:
    """Perform a chat that is not streamed."""
    return strict(ChatCompletion, json.loads(b"".join(performed(work))))


def completion(work: TextWork) -> Completion:
    """Perform a completion that is not streamed."""
    return strict(Completion, json.loads(b"".join(performed(work))))


def events(work: TextWork) -> list[dict[str, Any]]:
    """Perform a stream; return its events as JSON."""
    return [json.loads(piece.removeprefix(b"data: ")) for piece in performed(work)]


def chunks(work: TextWork) -> list[ChatCompletionChunk]:
    """Perform a streamed chat."""
    return [strict(ChatCompletionChunk, event) for event in events(work)]
