"""Server-sent events as OpenAI's clients read them (WHATWG HTML, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping

from fastapi import Response
from starlette.types import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"


def event(data: Mapping[str, object]) -> bytes:
    """Return one event; JSON escapes every line break, so one `data:` line holds it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()


class EventStream(Response):
    """Server-sent events that notice at once when their reader leaves.

    Starlette's own streaming response leaves the generator to the garbage collector then; here
    it is closed in order, so that the charge for what was delivered is booked.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], headers: dict[str, str]) -> None:
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events (ASGI); when this returns, they are ended or closed."""
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send_all(send, gone)
        finally:
            gone.cancel()
            await self._events.aclose()

    async def _send_all(self, send: Send, gone: asyncio.Future[None]) -> None:
        while True:
            piece = asyncio.ensure_future(_next(self._events))
            waiting: set[asyncio.Future[None] | asyncio.Future[bytes | None]] = {piece, gone}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                piece.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await piece
                return
            data = piece.result()
            message = {
                "type": "http.response.body",
                "body": data or b"",
                "more_body": data is not None,
            }
            try:
                await send(message)
            except OSError:  # how servers say that the socket is closed
                return
            if data is None:
                return


async def _next(events: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(events, None)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
