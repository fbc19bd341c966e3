"""A stream of which a liar keeps some pieces, and signs for what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from tests.liars.actor import Actor
from tests.liars.honest import signed_for
from tests.liars.wire import WireAnswer

_END = b"\n\n"


def kept_of(
    answer: WireAnswer, actor: Actor, choose: Callable[[list[bytes]], list[bytes]]
) -> WireAnswer:
    """Return the stream with the pieces that `choose` keeps; other answers as they are."""
    if "event-stream" not in answer.headers.get("content-type", ""):
        return answer
    *pieces, closing, done, _ = answer.body.split(_END)
    kept = b"".join(piece + _END for piece in choose(pieces))
    chunk = json.loads(closing.removeprefix(b"data: "))
    chunk["weightproof"] = signed_for(actor, chunk["weightproof"], kept)
    end = b"data: " + json.dumps(chunk).encode() + _END + done + _END
    return replace(answer, body=kept + end)
