"""The routes, and how an answer of the story becomes an HTTP response."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive

from inference import paid_call
from inference.api import (
    admin,
    attest,
    chat,
    classify,
    completions,
    disclosures,
    embeddings,
    formats,
    metrics,
    models,
    prices,
    proofs,
    subscriptions,
    tiles,
    wallet,
)
from inference.api.body import take_body
from inference.api.chat_body import ChatRequest
from inference.api.completion_body import CompletionRequest
from inference.api.cors import open_to_pages
from inference.api.direct import DirectApp, Headers, header
from inference.api.encoder_bodies import ClassifyRequest, EmbeddingsRequest
from inference.api.gate import Gate
from inference.api.plan import CHAT_PATH, COMPLETIONS_PATH
from inference.api.problems import handle
from inference.api.responses import respond
from inference.api.schemas import parse
from inference.api.subscriptions import SubscriptionRequest
from inference.call import Call
from inference.catalog import CatalogEntry
from inference.coupon import HEADER
from inference.errors import NodeError, PaymentRefusedError
from inference.limits import Buckets
from inference.node import Node
from inference.payments.x402 import decode_payment
from inference.work import Work

_COUPON: Final = HEADER.lower().encode()
_Ask = TypeVar(
    "_Ask",
    ChatRequest,
    CompletionRequest,
    ClassifyRequest,
    EmbeddingsRequest,
    SubscriptionRequest,
)


def create_app(node: Node) -> DirectApp:
    """Return the ASGI application of an opened node."""
    buckets = None
    if node.config.limits.address.per_minute:
        buckets = Buckets(node.config.limits.address, "address")
    app = DirectApp(
        buckets, title="Weightproof node", docs_url=None, redoc_url=None, lifespan=_lifespan(node)
    )
    if buckets is not None:
        app.add_middleware(Gate, buckets=buckets)
    open_to_pages(app)
    app.pass_by()  # direct routes ask `buckets` themselves, and are no pages'
    app.add_exception_handler(Exception, handle)
    for kind in (NodeError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)
    _paid(app, node, CHAT_PATH, "chat", ChatRequest, chat.prepare)
    _paid(app, node, COMPLETIONS_PATH, "chat", CompletionRequest, completions.prepare)
    _paid(app, node, "/v1/classify", "classify", ClassifyRequest, classify.prepare)
    _paid(app, node, "/v1/embeddings", "embed", EmbeddingsRequest, embeddings.prepare)
    if node.config.plans.subscriptions:
        sell = subscriptions.seller(node.config.plans)
        _paid(app, node, subscriptions.PATH, None, SubscriptionRequest, sell)
    app.include_router(models.router(node))
    app.include_router(prices.router(node))
    app.include_router(proofs.router(node))
    app.include_router(tiles.router(node.database, node.log, node.office.cosigning.head))
    app.include_router(formats.router())
    app.include_router(wallet.router(node))
    app.include_router(disclosures.router(node))
    app.include_router(admin.router(node))
    app.include_router(attest.router(node))
    app.include_router(metrics.router(node))
    return app


def _lifespan(node: Node) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with node.running():
            yield

    return lifespan


def _paid(
    app: DirectApp,
    node: Node,
    path: str,
    task: str | None,
    kind: type[_Ask],
    prepare: Callable[[CatalogEntry, _Ask], Awaitable[Work]],
) -> None:
    """Put a paid route at `path`; a GET on it shows the offers or refunds a channel."""
    url, limit = node.config.public_url + path, node.config.max_body_bytes
    timeout_s = node.config.door.body_timeout_s

    async def post(headers: Headers, receive: Receive) -> Response:
        body = await take_body(headers, receive, limit, timeout_s=timeout_s)
        ask = parse(kind, body)
        call = Call(
            url=url,
            body=body,
            payment=header(headers, b"payment-signature"),
            model=ask.model,
            task=task,
            prepare=lambda entry: prepare(entry, ask),
            coupon=header(headers, _COUPON) or "",
        )
        return respond(await paid_call.run(call, node.till))

    async def get(request: Request) -> Response:
        offers = node.cashier.offers(url, 0)
        model = next((entry.name for entry in node.catalog if entry.task == task), "")
        header = request.headers.get("payment-signature")
        if header is None:
            return respond(node.till.demands.answer(offers, model))
        payment = decode_payment(header)
        try:
            settled = await node.refund(payment, offers)
        except PaymentRefusedError as refusal:
            return respond(node.till.demands.answer(offers, model, refusal))
        return Response("{}", 200, {"PAYMENT-RESPONSE": settled}, "application/json")

    name = path.rpartition("/")[2]
    app.post_direct(path, post, name)
    app.router.routes.append(Route(path, get, methods=["GET"], name=f"{name} refund"))
