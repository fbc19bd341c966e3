"""How an answer of the story becomes an HTTP response."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from inference.api.problems import problem
from inference.api.sse import EventStream
from inference.call import Answer, Stream

# Browser clients may read only what is named here (x402 over HTTP, CORS).
_EXPOSED: Final = "PAYMENT-REQUIRED, PAYMENT-RESPONSE"


def respond(result: Answer | Stream) -> Response:
    """Return the response; errors get a body that says what is wrong."""
    if isinstance(result, Stream):
        headers = {**result.headers, "Access-Control-Expose-Headers": _EXPOSED}
        return EventStream(result.events, headers)
    if result.failure is not None:
        response = problem(result.failure)
        response.status_code = result.status
    else:
        response = Response(result.body, result.status, media_type=result.media_type)
    response.headers.update(result.headers)
    response.headers["Access-Control-Expose-Headers"] = _EXPOSED
    return response
