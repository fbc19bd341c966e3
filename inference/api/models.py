"""`GET /v1/models`: what is sold here, and what was verified about it. `GET /healthz`."""

from __future__ import annotations

import json

from fastapi import APIRouter, Response

from inference.catalog import CatalogEntry
from inference.node import Node


def router(node: Node) -> APIRouter:
    """Return the routes over a node's catalog."""
    routes = APIRouter()

    @routes.get("/v1/models", response_model=None)
    async def models() -> Response:
        return _json({"object": "list", "data": [describe(node, entry) for entry in node.catalog]})

    @routes.get("/v1/models/{name}", response_model=None)
    async def model(name: str) -> Response:
        return _json(describe(node, node.catalog.get(name)))

    @routes.get("/healthz", response_model=None)
    async def health() -> Response:
        facts = node.health()
        return _json(facts, 200 if facts["status"] == "ok" else 503)

    return routes


def describe(node: Node, entry: CatalogEntry) -> dict[str, object]:
    """Return OpenAI's model object with the verification facts beside it."""
    verified, loaded = entry.verified, entry.loaded
    stopped = node.catalog.stopped(entry)
    return {
        "id": entry.name,
        "object": "model",
        "created": verified.record.registered_at,
        "owned_by": verified.record.publisher,
        "weightproof": {
            "model_id": entry.model_id,
            "status": "stopped" if stopped else "active",
            "stopped_because": stopped,
            "task": entry.task,
            "chain_id": verified.chain_id,
            "registry": verified.registry_address,
            "manifest_cid": str(verified.manifest.cid),
            "manifest_digest": "0x" + verified.manifest_digest.hex(),
            "root_cid": str(verified.manifest.root),
            "verified_at_block": {
                "number": verified.block.number,
                "hash": "0x" + verified.block.hash.hex(),
            },
            "attesters": [attestation.attester for attestation in verified.attestations],
            "resident_digest": "0x" + loaded.resident.digest.hex(),
            "device": loaded.device,
            "dtype": loaded.dtype,
            "engine": entry.engine.facts.to_json(),
            "price": entry.price.to_json(),
            "exact_price": (entry.exact_price or entry.price).to_json(),
            "node": node.signer.address,
        },
    }


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value), status, media_type="application/json")
