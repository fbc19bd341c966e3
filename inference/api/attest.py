"""`POST /v1/models/{id}/attest`: tensors in memory, hashed anew for the caller's nonce."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from inference.api.body import read_body
from inference.api.problems import problem
from inference.api.schemas import parse
from inference.node import Node
from inference.selection import DEFAULT_TENSORS, MAX_TENSORS
from inference.witness import TooManyQuestionsError

# A nonce and a number take a hundred bytes.
_MAX_BODY_BYTES = 1024


class AttestRequest(BaseModel):
    """Body of the question: the caller's nonce, and how many tensors it may select."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    nonce: Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
    tensors: Annotated[int, Field(ge=1, le=MAX_TENSORS)] = DEFAULT_TENSORS


def router(node: Node) -> APIRouter:
    """Return the route over a node's witness."""
    routes = APIRouter()

    @routes.post("/v1/models/{name}/attest", response_model=None)
    async def attest(name: str, request: Request) -> Response:
        ask = parse(AttestRequest, await read_body(request, _MAX_BODY_BYTES))
        try:
            signed = await node.witness.testify(name, bytes.fromhex(ask.nonce[2:]), ask.tensors)
        except TooManyQuestionsError as error:
            response = problem(error)
            response.headers["Retry-After"] = str(error.retry_after_s)
            return response
        headers = {"Cache-Control": "no-store"}
        return Response(signed.encode(), 200, headers, "application/json")

    return routes
