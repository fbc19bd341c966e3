"""`GET /v1/prices`: signed price offers of what is sold here. Free, and from memory."""

from __future__ import annotations

import json
import time

from fastapi import APIRouter, Response

from inference.api.proofs import NotFoundError
from inference.node import Node


def router(node: Node) -> APIRouter:
    """Return the routes over a node's prices."""
    routes = APIRouter()
    tariff = node.till.tariff

    @routes.get("/v1/prices", response_model=None)
    async def prices() -> Response:
        now = int(time.time())
        offers = [
            {"offer": offer.to_json(), **tariff.shop.signed(offer, now=now)}
            for offer in map(tariff.offer, node.catalog)
        ]
        return Response(
            json.dumps({"object": "list", "data": offers}), media_type="application/json"
        )

    @routes.get("/v1/prices/{digest}", response_model=None)
    async def offer(digest: str) -> Response:
        """Show an offer that receipts name, also one that was replaced since."""
        try:
            found = tariff.shop.find(bytes.fromhex(digest.removeprefix("0x")))
        except ValueError:
            found = None
        if found is None:
            raise NotFoundError(f"no offer {digest!r:.80} here")
        return Response(found.encode(), media_type="application/json")

    return routes
