"""How an answer of the story becomes an HTTP response."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from inference.api.problems import problem
from inference.api.sse import EventStream
from inference.call import Answer, Stream

# Browser clients may read only what is named here (x402 over HTTP, CORS).
_EXPOSED: Final = "PAYMENT-REQUIRED, PAYMENT-RESPONSE"
_EXPOSES: Final = (b"access-control-expose-headers", _EXPOSED.encode())


class Piece(Response):
    """An answer in one piece, sent as it is: no header of it is looked for or changed again."""

    def __init__(self, answer: Answer) -> None:
        self.status_code = answer.status
        self.body = answer.body
        self.background = None
        self.raw_headers = [
            (b"content-length", b"%d" % len(answer.body)),
            (b"content-type", _content_type(answer.media_type)),
            _EXPOSES,
        ]
        for name, value in answer.headers.items():
            self.raw_headers.append((name.lower().encode("latin-1"), value.encode("latin-1")))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body})


@lru_cache(maxsize=16)
def _content_type(media_type: str) -> bytes:
    """Return the type that any other response, such as a stream in pieces, names for it."""
    return Response(media_type=media_type).headers["content-type"].encode("latin-1")


def respond(result: Answer | Stream) -> Response:
    """Return the response; errors get a body that says what is wrong."""
    if isinstance(result, Stream):
        headers = {**result.headers, "Access-Control-Expose-Headers": _EXPOSED}
        return EventStream(result.events, headers)
    if result.failure is None:
        return Piece(result)
    response = problem(result.failure)
    response.status_code = result.status
    response.headers.update(result.headers)
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    return response
