"""Our node, whole, but for its model: that answers at once and always the same.

Everything else is what `weightproof serve` runs: the routes, the catalog with a verified model, the
ledger on disk, receipts and the log. `/unpaid` is the paid route without its payment: the same
body, checks, work and answer. Run as `python -m payments_bench.our_node`.
"""

from __future__ import annotations

import argparse
import cProfile
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive

from inference.api.app import create_app
from inference.api.body import take_body
from inference.api.classify import prepare
from inference.api.direct import Headers
from inference.api.encoder_bodies import ClassifyRequest
from inference.api.schemas import parse
from inference.catalog import CatalogEntry
from inference.config import load
from inference.engine.classifier import Classifier
from inference.node import Node
from inference.server import SWITCH_S, listen, uvicorn_server
from payments_bench.market import NAME
from payments_bench.stopwatch import Stopwatches

UNPAID: Final = "/unpaid"
BREAKDOWN: Final = "/breakdown"
_IDS: Final = (5, 7, 11, 13)
_SCORES: Final = {"no": 0.25, "yes": 0.75}


async def _read(texts: Sequence[str]) -> list[tuple[int, ...]]:
    return [_IDS for _ in texts]


async def _score(encoded: Sequence[Sequence[int]]) -> list[dict[str, float]]:
    return [_SCORES for _ in encoded]


def silence(entry: CatalogEntry) -> None:
    """Have a classifier answer without computing, in constant time."""
    if not isinstance(entry.engine, Classifier):
        raise TypeError("the model of the bench classifies")
    vars(entry.engine).update(read=_read, score=_score)


def app(node: Node, watches: Stopwatches) -> FastAPI:
    """Return the node's application with the unpaid route beside the paid one."""
    application = create_app(node)

    async def unpaid(headers: Headers, receive: Receive) -> Response:
        ask = parse(ClassifyRequest, await take_body(headers, receive, node.config.max_body_bytes))
        with node.catalog.lease(ask.model, task="classify") as entry:
            work = await prepare(entry, ask)
            body = b"".join([piece async for piece in work.perform()])
        return Response(body, media_type="application/json")

    async def breakdown(_: Request) -> Response:
        watches.begin()  # only now: they take time themselves
        return JSONResponse(watches.lap())

    application.post_direct(UNPAID, unpaid, "unpaid")
    application.router.routes.append(Route(BREAKDOWN, breakdown))
    return application


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--profile", type=Path, help="write the event loop's profile to this file")
    options = parser.parse_args(arguments)
    node = Node.open(load(options.config))
    silence(node.catalog.get(NAME))
    sys.setswitchinterval(SWITCH_S)
    listener = listen("127.0.0.1", options.port)
    listener.listen()
    server = uvicorn_server(app(node, Stopwatches()), node.config.door)
    if options.profile is None:
        server.run(sockets=[listener])
        return
    # uvicorn raises the signal again when it has stopped; the profile is written after that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with cProfile.Profile() as profile:
        server.run(sockets=[listener])
    profile.dump_stats(options.profile)


if __name__ == "__main__":
    main(sys.argv[1:])
