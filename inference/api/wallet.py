"""What a wallet reads for free once it has shown who it is: its answers, receipts and usage.

`GET /v1/usage`, `/v1/receipts` and `/v1/answers/{identifier}`, by x402's sign-in-with-x. Without a
proof they are answered with 402 and a challenge; what they offer to be paid is 0 and not taken.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from inference.api.proofs import NotFoundError
from inference.api.responses import respond
from inference.call import Answer
from inference.errors import PaymentRefusedError
from inference.node import Node
from inference.sign_in import HEADER
from inference.usage import receipts, usage

Before = Annotated[int, Query(ge=0, le=2**53)]
_NEWEST = 2**53


def router(node: Node) -> APIRouter:
    """Return the routes over what payers bought."""
    routes = APIRouter()
    database, book = node.database, node.retries.book

    def challenged(uri: str, now: int, refusal: PaymentRefusedError | None = None) -> Response:
        challenge = node.sign_in.challenge(uri, now=now)
        offers = node.cashier.offers(uri, 0)
        return respond(node.till.demands.sign_in(offers, challenge, refusal))

    async def signed_in(request: Request, told: Callable[[str], Response]) -> Response:
        """Answer the wallet that signed in; hand out a challenge to anybody else."""
        now, uri = int(time.time()), node.config.public_url + request.url.path
        header = request.headers.get(HEADER)
        if header is None:
            return challenged(uri, now)
        try:
            proof = node.sign_in.check(header, uri, now=now)
            await database.write(lambda tx: node.sign_in.use(tx, proof, now=now))
        except PaymentRefusedError as refusal:
            return challenged(uri, now, refusal)
        # Adding up receipts takes a while: other calls must not wait for that.
        return await asyncio.to_thread(told, proof.payer)

    @routes.get("/v1/usage", response_model=None)
    async def used(request: Request, before: Before = _NEWEST) -> Response:
        def told(payer: str) -> Response:
            return _json(database.read(lambda tx: usage(tx, payer, before)))

        return await signed_in(request, told)

    @routes.get("/v1/receipts", response_model=None)
    async def signed(request: Request, before: Before = _NEWEST) -> Response:
        def told(payer: str) -> Response:
            found, more = database.read(lambda tx: receipts(tx, payer, before))
            return _json({"receipts": [each.bundle() for each in found], "next": more})

        return await signed_in(request, told)

    @routes.get("/v1/answers/{identifier}", response_model=None)
    async def answer(identifier: str, request: Request) -> Response:
        def told(payer: str) -> Response:
            now = int(time.time())
            kept: Answer | None = database.read(
                lambda tx: book.of_payer(tx, payer, identifier, now=now)
            )
            if kept is None:
                raise NotFoundError(f"no answer to a call of yours named {identifier!r:.130}")
            return respond(kept)

        return await signed_in(request, told)

    return routes


def _json(value: object) -> Response:
    headers = {"Cache-Control": "no-store, private"}
    return Response(json.dumps(value), 200, headers, "application/json")
