"""`GET /v1/schemas`: JSON Schemas of what the node signs and shows. Free, and from memory."""

from __future__ import annotations

import json

from fastapi import APIRouter, Response

from inference.formats import FORMATS, find_format

_SCHEMA_TYPE = "application/schema+json"


def router() -> APIRouter:
    """Return the routes over the published formats."""
    routes = APIRouter()

    @routes.get("/v1/schemas", response_model=None)
    async def schemas() -> Response:
        data = [
            {"name": one.name, "about": one.about, "path": f"/v1/schemas/{one.name}"}
            for one in FORMATS.values()
        ]
        listed = json.dumps({"object": "list", "data": data})
        return Response(listed, media_type="application/json")

    @routes.get("/v1/schemas/{name}", response_model=None)
    async def schema(name: str) -> Response:
        return Response(json.dumps(find_format(name).schema), media_type=_SCHEMA_TYPE)

    return routes
