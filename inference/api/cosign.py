"""The application of a witness of heads: `POST /add-checkpoint` (C2SP tlog-witness)."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from inference.api.body import read_body
from inference.api.problems import handle
from inference.audit.head_witness import HeadConflictError, HeadWitness
from inference.audit.submission import MAX_BYTES
from inference.errors import NodeError

# Whose body is the size to begin at, instead of an error.
_SIZE: Final = "text/x.tlog.size"


def create_witness_app(witness: HeadWitness) -> FastAPI:
    """Return the ASGI application."""
    app = FastAPI(title="Weightproof witness", docs_url=None, redoc_url=None)
    app.add_exception_handler(Exception, handle)
    for kind in (NodeError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)

    @app.post("/add-checkpoint", response_model=None)
    async def add_checkpoint(request: Request) -> Response:
        body = await read_body(request, MAX_BYTES)
        try:
            # It waits for the disk, and for whoever asks about the same log.
            line = await asyncio.to_thread(witness.add_checkpoint, body)
        except HeadConflictError as error:
            # The protocol wants it so, without a charset.
            return Response(f"{error.size}\n", error.status, {"Content-Type": _SIZE})
        return Response(line + "\n", media_type="text/plain; charset=utf-8")

    return app
