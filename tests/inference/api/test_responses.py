"""An answer in one piece has the head that the framework, or the stream it repeats, would give."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from fastapi import Response

from inference.api.responses import respond
from inference.call import EVENT_STREAM, Answer, Stream
from inference.errors import UnavailableError

PAID = {"PAYMENT-RESPONSE": "e30=", "Cache-Control": "no-store, private"}


def test_a_failure_is_told_with_what_was_paid() -> None:
    head = respond(Answer(503, b"", PAID, UnavailableError("not now")))
    assert head.status_code == 503
    assert head.headers["payment-response"] == "e30="
    assert "PAYMENT-RESPONSE" in head.headers["access-control-expose-headers"]


@pytest.mark.parametrize("media_type", ["application/json", EVENT_STREAM])
def test_it_has_the_frameworks_own_head(media_type: str) -> None:
    ours = respond(Answer(200, b"body", PAID, media_type=media_type))
    theirs = Response(b"body", 200, PAID, media_type)
    exposed = ours.headers["access-control-expose-headers"]
    assert dict(ours.headers) == {
        **dict(theirs.headers),
        "access-control-expose-headers": exposed,
    }


def test_a_stream_that_is_told_again_has_the_head_it_had() -> None:
    async def nothing() -> AsyncGenerator[bytes, None]:
        yield b""

    stream = respond(Stream(PAID, nothing()))
    again = respond(Answer(200, b"body", PAID, media_type=EVENT_STREAM))
    length = again.headers["content-length"]
    assert dict(again.headers) == {**dict(stream.headers), "content-length": length}
