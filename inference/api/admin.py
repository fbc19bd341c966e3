"""`/admin`: the operator loads, swaps and unloads models of the running node by signed commands.

`GET /admin` tells anybody what a command is signed for: the node, its chain, its present session.
A load answers when the model is on sale; meanwhile `GET /admin/models` says how far it is.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from inference.api.body import read_body
from inference.api.problems import problem
from inference.api.schemas import parse
from inference.catalog import CatalogEntry
from inference.config import ModelConfig
from inference.errors import (
    LoadRefusedError,
    NodeError,
    RequestError,
    UnavailableError,
)
from inference.node import Node
from inference.operator import SCHEME, ModelRefusedError, OperatorRefusedError
from inference.payments.pricing import MAX_SECONDS, Price
from registry.errors import ChainError, ConfigError, WeightproofError

# A load's body takes some 300 bytes, and a path 4096 at most.
MAX_BODY_BYTES: Final = 16 * 1024
_Atoms = Annotated[int, Field(ge=0, le=2**53)]
# What a receipt can state, and what the paid routes take as a name.
_Name = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,198}[!-~])?$")]


class PriceBody(BaseModel):
    """Prices in atomic units."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    per_call: _Atoms = 0
    input_per_million: _Atoms = 0
    output_per_million: _Atoms = 0
    per_second: _Atoms = 0
    most_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] = 0


class LoadRequest(BaseModel):
    """Body of `POST /admin/models`. `folder` is a path on the node's machine."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: _Name
    id: Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
    folder: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    price: PriceBody
    exact_price: PriceBody | None = None

    def model(self) -> ModelConfig:
        """Return it as the settings would have it. Raises `RequestError`."""
        folder = None if self.folder is None else Path(self.folder)
        if folder is not None and (not folder.is_absolute() or "\0" in str(folder)):
            raise RequestError(
                "folder: is not an absolute path; it is read on the node's machine, "
                "whose working folder is not yours",
                param="folder",
            )
        exact = _price(self.exact_price, "exact_price") if self.exact_price else None
        price = _price(self.price, "price")
        return ModelConfig(self.name, bytes.fromhex(self.id[2:]), folder, price, exact)


def _price(body: PriceBody, field: str) -> Price:
    try:
        return Price(**body.model_dump())
    except ConfigError as error:
        raise RequestError(error.message, param=field, hint=error.hint) from error


def router(node: Node) -> APIRouter:
    """Return the operator's routes."""
    routes = APIRouter()

    async def ordered(request: Request, action: str) -> bytes | Response:
        """Return the body of a command that the operator signed, else the refusal."""
        body = await read_body(request, MAX_BODY_BYTES)
        try:
            if request.url.query:
                raise OperatorRefusedError("commands have no query")
            node.operator.check(
                request.headers.get("authorization"),
                action=action,
                path=request.scope["path"],
                body=body,
            )
        except OperatorRefusedError as error:
            response = problem(error)
            response.headers["WWW-Authenticate"] = SCHEME
            return response
        return body

    @routes.get("/admin", response_model=None)
    async def session() -> Response:
        domain = node.operator.domain
        facts = {"node": domain.contract, "chain_id": domain.chain_id}
        return _json({**facts, "session": "0x" + node.operator.session.hex()})

    @routes.get("/admin/models", response_model=None)
    async def models(request: Request) -> Response:
        body = await ordered(request, "list")
        return body if isinstance(body, Response) else _json(describe(node))

    @routes.post("/admin/models", response_model=None)
    async def load(request: Request) -> Response:
        body = await ordered(request, "load")
        if isinstance(body, Response):
            return body
        model = parse(LoadRequest, body).model()
        try:
            placed = await asyncio.to_thread(node.load, model)
        except WeightproofError as error:
            return problem(_refusal(error))
        return _json(asdict(placed), 200 if placed.replaced else 201)

    @routes.delete("/admin/models/{name:path}", response_model=None)
    async def unload(name: str, request: Request) -> Response:
        body = await ordered(request, "unload")
        if isinstance(body, Response):
            return body
        entry = node.stock.unload(name)
        leases = node.catalog.standing(entry).leases
        return _json({"name": name, "model_id": entry.model_id, "leases": leases})

    return routes


def describe(node: Node) -> dict[str, object]:
    """Return what the operator sees: memory, models, a load under way, the load that failed last.

    Sizes in bytes, times in unix seconds; `leases` are calls in flight, `paid_at` 0 is never.
    """
    stock = node.stock
    under_way, failure = stock.under_way, stock.failure
    return {
        "budget_bytes": stock.budget,
        "used_bytes": stock.used(),
        "unload_when_full": node.config.unload_when_full,
        "models": [_row(node, entry) for entry in node.catalog.held()],
        "loading": asdict(under_way) if under_way else None,
        "failure": asdict(failure) if failure else None,
    }


def _row(node: Node, entry: CatalogEntry) -> dict[str, object]:
    standing = node.catalog.standing(entry)
    price, state = entry.price, "on sale"
    if standing.stopped or standing.retired:
        state = "leaving" if standing.retired else "stopped"
    return {
        "name": entry.name,
        "model_id": entry.model_id,
        "task": entry.task,
        "state": state,
        "stopped_because": standing.stopped,
        "device": entry.loaded.device,
        "memory_bytes": entry.memory,
        "leases": standing.leases,
        "paid_at": int(standing.paid_at),
        "loaded_at": int(standing.loaded_at),
        "price": price.to_json(),
        "exact_price": (entry.exact_price or price).to_json(),
    }


def _refusal(error: WeightproofError) -> NodeError:
    """Return the error an operator is told, with the file and rule where there is one."""
    if isinstance(error, NodeError) and not isinstance(error, LoadRefusedError):
        return error
    if isinstance(error, ChainError):
        return UnavailableError(error.message, hint=error.hint)
    if isinstance(error, ConfigError):
        return RequestError(error.message, hint=error.hint)
    return ModelRefusedError(error.message, hint=error.hint)


def _json(value: object, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(json.dumps(value), status, headers, "application/json")
