"""The body of a request, read only as far as the node is willing to."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from inference.api.direct import Headers, header
from inference.errors import BodyTooLargeError, BodyTooSlowError


async def read_body(request: Request, limit: int, *, timeout_s: int = 30) -> bytes:
    """Read the body of a request as `take_body` does."""
    headers: Headers = request.scope["headers"]
    return await take_body(headers, request.receive, limit, timeout_s=timeout_s)


async def take_body(
    headers: Headers, receive: Receive, limit: int, *, timeout_s: int = 30
) -> bytes:
    """Read at most `limit` bytes; a larger body is refused before it is read.

    Raises `BodyTooLargeError`, and `BodyTooSlowError` after `timeout_s` seconds.
    """
    declared = header(headers, b"content-length") or "0"
    if not declared.isdigit() or int(declared) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
            if not message.get("more_body", False):
                body = _piece(message)
            else:
                body = await _rest(message, receive, limit)
    except TimeoutError as error:
        raise BodyTooSlowError(f"the body did not arrive within {timeout_s} seconds") from error
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _rest(message: Message, receive: Receive, limit: int) -> bytes:
    """Return a body that comes in pieces, as far as what is too large."""
    body = bytearray(_piece(message))
    while message.get("more_body", False) and len(body) <= limit:
        message = await receive()
        body += _piece(message)
    return bytes(body)


def _piece(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    piece: bytes = message.get("body", b"")
    return piece


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the body is larger than {limit} bytes")
