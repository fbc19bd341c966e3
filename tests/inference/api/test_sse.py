"""Event streams end in order, whoever ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from inference.api.sse import EventStream

PATIENCE_S = 20


class Events:
    """Some pieces, then none for ever, or what breaks off; `closed` when all was put away."""

    def __init__(self, *pieces: bytes, failure: Exception | None = None) -> None:
        self._pieces = pieces
        self._failure = failure
        self.closed = False

    async def made(self) -> AsyncGenerator[bytes, None]:
        try:
            for piece in self._pieces:
                yield piece
            if self._failure is not None:
                raise self._failure
            await asyncio.Event().wait()
        finally:
            # As a charge is booked: it takes a while, and nobody may stop waiting for it.
            await asyncio.shield(asyncio.sleep(0))
            self.closed = True


class Reader:
    """The server's side of one connection: leaves, or closes its socket, after so many pieces."""

    def __init__(self, *, leaves: int | None = None, breaks: int | None = None) -> None:
        self._leaves = leaves
        self._breaks = breaks
        self._left = asyncio.Event()
        self.pieces: list[bytes] = []

    async def send(self, message: Any) -> None:
        if message["type"] != "http.response.body":
            return
        if len(self.pieces) == self._breaks:
            raise OSError("the socket is closed")
        self.pieces.append(message["body"])
        if len(self.pieces) == self._leaves:
            self._left.set()

    async def receive(self) -> Any:
        await self._left.wait()
        return {"type": "http.disconnect"}


def read(events: Events, **how: Any) -> list[bytes]:
    async def work() -> list[bytes]:
        reader = Reader(**how)
        await EventStream(events.made(), {})({}, reader.receive, reader.send)
        return reader.pieces

    return asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def test_a_reader_that_leaves_ends_the_events_before_the_next_one_comes() -> None:
    events = Events(b"one", b"two")
    assert read(events, leaves=2) == [b"one", b"two"]
    assert events.closed


def test_a_socket_that_is_closed_ends_the_events() -> None:
    events = Events(b"one", b"two", b"three")
    assert read(events, breaks=1) == [b"one"]
    assert events.closed


def test_what_breaks_the_events_off_is_not_taken_for_a_closed_socket() -> None:
    events = Events(b"one", failure=OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        read(events)
    assert events.closed
