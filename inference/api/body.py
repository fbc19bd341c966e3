"""The body of a request, read only as far as the node is willing to."""

from __future__ import annotations

import asyncio

from fastapi import Request

from inference.errors import BodyTooLargeError, BodyTooSlowError


async def read_body(request: Request, limit: int, *, timeout_s: int = 30) -> bytes:
    """Read at most `limit` bytes; a larger body is refused before it is read.

    Raises `BodyTooLargeError`, and `BodyTooSlowError` after `timeout_s` seconds.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(request, limit)
    except TimeoutError as error:
        raise BodyTooSlowError(f"the body did not arrive within {timeout_s} seconds") from error


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    body = bytearray()
    if declared.isdigit() and int(declared) <= limit:
        async for piece in request.stream():
            body += piece
            if len(body) > limit:
                break
        else:
            return bytes(body)
    raise BodyTooLargeError(f"the body is larger than {limit} bytes")
