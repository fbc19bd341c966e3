"""What anybody may check: the log, its proofs, receipts and channels. Nothing here is trusted."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy import Connection

from inference.audit.log import MAX_PAGE
from inference.audit.note_key import bind
from inference.audit.reader import KeyedLogIdentity
from inference.errors import ModelUnknownError, RequestError
from inference.kept_receipts import find_receipt
from inference.node import Node
from inference.payments import books

# What JSON carries exactly, and every database holds.
_MAX_SIZE = 2**53
Count = Annotated[int, Query(ge=0, le=_MAX_SIZE)]


class NotFoundError(ModelUnknownError):
    """No such receipt or channel."""

    code = "not_found"


def router(node: Node) -> APIRouter:
    """Return the routes over a node's log."""
    routes = APIRouter()
    database, log = node.database, node.log

    @routes.get("/v1/log", response_model=None)
    async def identity() -> Response:
        contracts = node.config.registry.contracts
        vkey, signature = bind(node.signer, log.origin, node.settlement.anchors.domain)
        return _json(
            {
                "format": KeyedLogIdentity.FORMAT,
                "origin": log.origin,
                "node": node.signer.address,
                "chain": contracts.chain_id,
                "anchor": contracts.audit_anchor,
                "registry": contracts.model_registry,
                "size": database.read(log.size),
                "vkey": vkey,
                "vkeySignature": "0x" + signature.hex(),
            }
        )

    @routes.get("/v1/log/checkpoint", response_model=None)
    async def checkpoint() -> Response:
        signed = await asyncio.to_thread(node.settlement.checkpoint)
        return Response(signed.note, media_type="text/plain; charset=utf-8")

    @routes.get("/v1/log/entries", response_model=None)
    async def entries(start: Count, end: Count) -> Response:
        if not start < end:
            raise RequestError(f"start must be below end, at most {MAX_PAGE} at once", param="end")

        def page() -> Response:
            found = database.read(lambda tx: log.entry_bytes(tx, start, end))
            return _json({"start": start, "entries": [entry.decode() for entry in found]})

        # A page has megabytes: other calls must not wait for it.
        return await asyncio.to_thread(page)

    @routes.get("/v1/log/proof/inclusion", response_model=None)
    async def inclusion(seq: Count, size: Count) -> Response:
        proof = database.read(lambda tx: log.inclusion_proof(tx, seq, size))
        return _json({"seq": seq, "size": size, "proof": _hex(proof)})

    @routes.get("/v1/log/proof/consistency", response_model=None)
    async def consistency(old: Count, new: Count) -> Response:
        proof = database.read(lambda tx: log.consistency_proof(tx, old, new))
        return _json({"old": old, "new": new, "proof": _hex(proof)})

    _add_statements(routes, node)
    return routes


def _add_statements(routes: APIRouter, node: Node) -> None:
    @routes.get("/v1/receipts/{receipt_id}", response_model=None)
    async def receipt(receipt_id: str) -> Response:
        # The salts stay with the payer: with them, anybody could test guesses of a prompt.
        signed = node.database.read(lambda tx: find_receipt(tx, receipt_id))
        if signed is None:
            raise NotFoundError(f"no receipt {receipt_id!r:.80} here")
        return _json(signed.public())

    @routes.get("/v1/channels/{channel_id}", response_model=None)
    async def channel(channel_id: str) -> Response:
        state = _channel_state(node, channel_id.lower())
        if state is None:
            raise NotFoundError(f"no channel {channel_id!r:.80} here")
        return _json(state)


def _channel_state(node: Node, channel_id: str) -> dict[str, object] | None:
    def read(tx: Connection) -> dict[str, object] | None:
        account = node.cashier.ledger.account(tx, channel_id)
        if account is None:
            return None
        return {
            "channelId": channel_id,
            "cumulative": str(account.claimable(books.opened(tx, channel_id))),
            "signedMax": str(account.signed_max),
            "balance": str(account.chain.balance),
            "totalClaimed": str(account.chain.total_claimed),
            "size": node.log.size(tx),
        }

    return node.database.read(read)


def _hex(hashes: tuple[bytes, ...]) -> list[str]:
    return ["0x" + item.hex() for item in hashes]


def _json(value: object) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), media_type="application/json")
