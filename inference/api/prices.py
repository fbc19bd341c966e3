"""`GET /v1/prices`: signed price offers of what is sold here. Free, and from memory."""

from __future__ import annotations

import json
import time

from fastapi import APIRouter, Response

from inference.node import Node


def router(node: Node) -> APIRouter:
    """Return the route over a node's prices."""
    routes = APIRouter()
    shop = node.till.tariff.shop

    @routes.get("/v1/prices", response_model=None)
    async def prices() -> Response:
        now = int(time.time())
        offers = [
            shop.signed(
                shop.offer(
                    entry.name,
                    entry.verified.model_id,
                    entry.price,
                    entry.exact_price or entry.price,
                ),
                now=now,
            )
            for entry in node.catalog
        ]
        return Response(
            json.dumps({"object": "list", "data": offers}), media_type="application/json"
        )

    return routes
