"""What a payer used, from its receipts: calls, tokens and charges per day and model."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, select

from inference import schema
from inference.kept_receipts import signed_of
from inference.receipts import SignedReceipt

# Receipts that one page of usage adds up, and that one page of receipts holds (2 KiB each).
USAGE_PAGE: Final = 2000
RECEIPTS_PAGE: Final = 100
_TABLE: Final = schema.receipts


def usage(tx: Connection, payer: str, before: int) -> dict[str, Any]:
    """Return a payer's usage from its receipts below log position `before`, newest first.

    Rows of the same day (UTC), model, asset and status on two pages add up. `next` is the `before`
    of the next page, None on the last.
    """
    query = select(_TABLE.c.seq, _TABLE.c.json).where(
        _TABLE.c.payer == payer, _TABLE.c.seq < before
    )
    found = tx.execute(query.order_by(_TABLE.c.seq.desc()).limit(USAGE_PAGE)).all()
    rows: dict[tuple[str, ...], Counter[str]] = {}
    for row in found:
        receipt = json.loads(row.json)
        payment, tokens = receipt["payment"], receipt["tokens"]
        day = datetime.fromtimestamp(receipt["servedAt"], UTC).date().isoformat()
        key = (day, receipt["model"]["name"], payment["asset"], receipt["status"])
        rows.setdefault(key, Counter()).update(
            calls=1,
            input=tokens["input"],
            output=tokens["output"],
            charged=int(payment["charged"]),
        )
    names = ("day", "model", "asset", "status")
    return {
        "payer": payer,
        "usage": [
            dict(zip(names, key, strict=True))
            | {
                "calls": sums["calls"],
                "inputTokens": sums["input"],
                "outputTokens": sums["output"],
                "charged": str(sums["charged"]),
            }
            for key, sums in rows.items()
        ],
        "next": _next([row.seq for row in found], USAGE_PAGE),
    }


def receipts(tx: Connection, payer: str, before: int) -> tuple[list[SignedReceipt], int | None]:
    """Return a page of a payer's receipts with their salts, and `before` of the next page."""
    query = select(_TABLE).where(_TABLE.c.payer == payer, _TABLE.c.seq < before)
    found = tx.execute(query.order_by(_TABLE.c.seq.desc()).limit(RECEIPTS_PAGE)).all()
    return [signed_of(row) for row in found], _next([row.seq for row in found], RECEIPTS_PAGE)


def _next(seqs: list[int], page: int) -> int | None:
    return seqs[-1] if len(seqs) == page else None
