"""A stream as its reader hears it: events, their chunks, and the receipt behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from inference.errors import UnavailableError

_DATA: Final = b"data: "


@dataclass
class Heard:
    """What came of a stream: the bytes its receipt is about, its chunks, why it failed.

    `is_ended` says that the node told of an end, and did not just stop.
    """

    received: bytes = b""
    chunks: list[dict[str, Any]] = field(default_factory=list)
    bundle: object = None
    failure: str = ""
    is_ended: bool = False

    def take(self, piece: bytes, chunk: dict[str, Any]) -> str:
        """Take an event; return its text."""
        if "weightproof" in chunk:
            self.bundle = chunk["weightproof"]
            return ""
        self.received += piece
        if "error" in chunk:
            self.failure = str(chunk["error"]["message"])
            return ""
        self.chunks.append(chunk)
        self.is_ended |= any(choice.get("finish_reason") for choice in chunk["choices"])
        return first_text(chunk)


async def events(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield each event's exact bytes, its blank line included."""
    waiting = b""
    async for piece in response.aiter_bytes():
        waiting += piece
        while (end := waiting.find(b"\n\n")) >= 0:
            yield waiting[: end + 2]
            waiting = waiting[end + 2 :]


def chunk_of(piece: bytes) -> dict[str, Any] | None:
    """Return an event's chunk, None at the end mark. Raises `UnavailableError` for no JSON."""
    text = piece.removeprefix(_DATA).strip()
    if text == b"[DONE]":
        return None
    try:
        chunk = json.loads(text)
    except ValueError as error:
        raise UnavailableError("the node's stream is not JSON events") from error
    if not isinstance(chunk, dict):
        raise UnavailableError("the node's stream is not JSON events")
    return chunk


def first_text(body: Mapping[str, Any]) -> str:
    """Return the text of the first answer in a body or chunk of either text route."""
    for choice in body["choices"]:
        if choice["index"] == 0:
            said = choice.get("message") or choice.get("delta") or choice
            return said.get("content") or said.get("text") or ""
    return ""
