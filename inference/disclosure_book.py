"""What is kept of calls for auditors, and what was refused to them.

A kept call is its payer's content: it lies here as long as the settings say, beside the receipt
whose salts it is shown with, and is deleted then. The oldest go first where there are too many.
"""

from __future__ import annotations

import struct
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from inference import schema
from inference.audit.disclosure import Disclosed, Refusal
from inference.disclosure_config import DisclosureConfig
from inference.receipts import SignedReceipt
from registry.signing.canonical import decode_object

_KEPT: Final = schema.disclosures
_REFUSED: Final = schema.refusals
_MAX_REFUSAL_BYTES: Final = 8192
# Rows that one write deletes: others wait for it.
_ROWS: Final = 200


class DisclosureBook:
    """Kept calls and refusals; every method works in the caller's transaction.

    `now` is in unix seconds.
    """

    def __init__(self, config: DisclosureConfig | None = None) -> None:
        self.config: Final = config or DisclosureConfig()

    def keep(
        self,
        tx: Connection,
        receipt_id: str,
        request: bytes,
        output_ids: tuple[int, ...],
        *,
        now: int,
    ) -> None:
        """Keep a call that made tokens, if calls are kept at all."""
        if not (self.config.keep_s and output_ids):
            return
        ids = struct.pack(f"<{len(output_ids)}I", *output_ids)
        row = {
            "receipt_id": receipt_id,
            "request": request,
            "output_ids": ids,
            "size": len(request) + len(ids),
            "created_at": now,
            "expires_at": now + self.config.keep_s,
        }
        tx.execute(insert(_KEPT).values(row))

    def find(self, tx: Connection, signed: SignedReceipt, *, now: int) -> Disclosed | None:
        """Return what may be told of a call, None where nothing is kept."""
        row = tx.execute(select(_KEPT).where(_KEPT.c.receipt_id == signed.receipt.id)).first()
        if row is None or row.expires_at <= now or signed.salts is None:
            return None
        ids = struct.unpack(f"<{len(row.output_ids) // 4}I", row.output_ids)
        return Disclosed(signed.receipt.id, bytes(row.request), signed.salts, ids)

    def refusal(self, tx: Connection, receipt_id: str) -> Refusal | None:
        """Return the refusal to disclose a call, None where it was not refused yet."""
        query = select(_REFUSED.c.body).where(_REFUSED.c.receipt_id == receipt_id)
        body = tx.execute(query).scalar()
        if body is None:
            return None
        return Refusal.from_json(decode_object(body.encode(), max_bytes=_MAX_REFUSAL_BYTES))

    def refuse(self, tx: Connection, refusal: Refusal) -> None:
        """Note a refusal."""
        row = {"receipt_id": refusal.receipt, "body": refusal.encode().decode()}
        tx.execute(insert(_REFUSED).values(row))

    def sweep(self, tx: Connection, *, now: int) -> int:
        """Delete some of what has expired or is too much; return how many calls."""
        newest = (_KEPT.c.created_at.desc(), _KEPT.c.receipt_id)
        sums = select(
            _KEPT.c.receipt_id,
            _KEPT.c.expires_at,
            func.sum(_KEPT.c.size).over(order_by=newest).label("all"),
        ).subquery()
        spent = (sums.c.expires_at <= now) | (sums.c.all > self.config.total_bytes)
        query = select(sums.c.receipt_id).where(spent).limit(_ROWS)
        ids = [row.receipt_id for row in tx.execute(query)]
        if ids:
            tx.execute(delete(_KEPT).where(_KEPT.c.receipt_id.in_(ids)))
        return len(ids)
