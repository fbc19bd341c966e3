"""The body of a request, read only as far as the node is willing to."""

from __future__ import annotations

from fastapi import Request

from inference.errors import BodyTooLargeError


async def read_body(request: Request, limit: int) -> bytes:
    """Read at most `limit` bytes; a larger body is refused before it is read.

    Raises `BodyTooLargeError`.
    """
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
