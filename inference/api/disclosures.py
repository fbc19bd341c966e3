"""`POST /v1/disclosures`: an auditor asks for a call that its payer lets it see."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from inference.api.body import read_body
from inference.audit.disclosure import MAX_REQUEST_BYTES, Refusal
from inference.node import Node

PATH = "/v1/disclosures"


def router(node: Node) -> APIRouter:
    """Return the route over what a node keeps for auditors."""
    routes = APIRouter()
    disclosures, buckets = node.disclosures, node.disclosures.buckets

    @routes.post(PATH, response_model=None)
    async def disclose(request: Request) -> Response:
        body = await read_body(
            request, MAX_REQUEST_BYTES, timeout_s=node.config.door.body_timeout_s
        )
        asked = disclosures.read(body)
        buckets.take(asked.auditor)
        found = await asyncio.to_thread(disclosures.answer, asked)
        # It was there, and is not any more.
        status = 410 if isinstance(found, Refusal) else 200
        headers = {"Cache-Control": "no-store, private"}
        return Response(found.encode(), status, headers, "application/json")

    return routes
