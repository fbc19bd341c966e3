"""Errors as clients see them: OpenAI's error object, and nothing of the node's inside."""

from __future__ import annotations

import json

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from inference.errors import NodeError, RequestError, UnavailableError
from inference.limits import RateLimitedError
from registry.errors import ChainError, WeightproofError


class RouteError(NodeError):
    """No such route, or not with this method."""

    code = "no_such_route"

    def __init__(self, status: int) -> None:
        super().__init__("there is no such route, or not with this method")
        self.status = status


_TYPES = {400: "invalid_request_error", 402: "payment_required", 404: "invalid_request_error"}
# A client that waits this long meets a restarted chain node or a shorter queue.
RETRY_AFTER_S = "2"


def problem(error: NodeError) -> Response:
    """Return the response that stands for an error."""
    text = f"{error.message}; {error.hint}" if error.hint else error.message
    headers = {"Retry-After": RETRY_AFTER_S} if error.status in (429, 503) else {}
    if not error.afresh:
        # OpenAI's clients retry by themselves, and below them a new payment would be made.
        headers["x-should-retry"] = "false"
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(error.retry_after_s)
    body = {
        "error": {
            "message": text,
            "type": _TYPES.get(error.status, "server_error" if error.status >= 500 else "error"),
            "param": (error.param or None) if isinstance(error, RequestError) else None,
            "code": error.code,
        }
    }
    return Response(json.dumps(body), error.status, headers, "application/json")


async def handle(_: Request, error: Exception) -> Response:
    """Turn any error that reached the outermost door into a response."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return problem(RequestError(f"{field}: {first['msg']}", param=field))
    if isinstance(error, HTTPException):
        return problem(RouteError(error.status_code))
    if isinstance(error, NodeError):
        return problem(error)
    if isinstance(error, ChainError):
        return problem(UnavailableError("the chain does not answer; nothing was charged"))
    if isinstance(error, WeightproofError):
        return problem(NodeError("the node could not do this; nothing was charged"))
    return problem(NodeError("the node failed; nothing was charged"))
