"""The log as C2SP tlog-tiles, below `/log/`: a checkpoint, and files that never change.

A proxy or CDN may keep every tile for ever; `weightproof log export` writes the same files.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response

from inference.api.problems import problem
from inference.audit.log import AuditLog
from inference.audit.tiled_log import TiledLog
from inference.audit.tiles import ENTRIES, NoTileError, Tile
from inference.database import Database

# A partial tile's name tells its width, so its bytes are as final as a full one's.
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_NEVER: Final = "no-store"
# Entries are JSON: a third of their size, at an eighth of the time that the best ratio takes.
_GZIP_LEVEL: Final = 1


def router(database: Database, log: AuditLog, head: Callable[[], str]) -> APIRouter:
    """Return the routes over a node's log; `head` gives the note of the checkpoint to show."""
    routes = APIRouter()
    tiled = TiledLog(log)

    @routes.get("/log/checkpoint", response_model=None)
    async def checkpoint() -> Response:
        note = await asyncio.to_thread(head)
        headers = {"Cache-Control": "no-cache"}
        return Response(note, 200, headers, "text/plain; charset=utf-8")

    @routes.get("/log/tile/{name:path}", response_model=None)
    async def tile(name: str, request: Request) -> Response:
        wanted = _tile(f"tile/{name}")
        if isinstance(wanted, Response):
            return wanted
        packed = wanted.level == ENTRIES and "gzip" in request.headers.get("accept-encoding", "")

        def read() -> bytes:
            data = database.read(lambda tx: tiled.read(tx, wanted))
            return gzip.compress(data, _GZIP_LEVEL, mtime=0) if packed else data

        try:
            # A bundle has up to megabytes: other calls must not wait for it.
            data = await asyncio.to_thread(read)
        except NoTileError as error:
            return _missing(error)
        headers = {"Cache-Control": _FOR_EVER}
        if wanted.level == ENTRIES:
            headers["Vary"] = "Accept-Encoding"
        if packed:
            headers["Content-Encoding"] = "gzip"
        return Response(data, 200, headers, "application/octet-stream")

    return routes


def _tile(path: str) -> Tile | Response:
    try:
        return Tile.parse(path)
    except NoTileError as error:
        return _missing(error)


def _missing(error: NoTileError) -> Response:
    """Say that it is not there, to nobody else: it may be there in a second."""
    response = problem(error)
    response.headers["Cache-Control"] = _NEVER
    return response
