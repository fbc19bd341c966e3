"""Receipts as the node keeps them: the payers' copies, with their salts, in its database."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, select

from inference import schema
from inference.prepared import Prepared
from inference.receipt_format import MAX_BYTES, parse_receipt
from inference.receipts import Salts, SignedReceipt
from registry.signing.canonical import decode_object

_STORE: Final = Prepared(schema.receipts.insert())


def store_receipt(tx: Connection, signed: SignedReceipt) -> None:
    """Keep the payer's copy, in the transaction that appends its entry to the log."""
    values = {
        "id": signed.receipt.id,
        "seq": signed.receipt.seq,
        "payer": signed.receipt.payment.payer,
        "json": signed.receipt.canonical,
        "signature": "0x" + signed.signature.hex(),
        "salts": signed.salts.canonical if signed.salts else "{}",
        "created_at": signed.receipt.served_at,
    }
    _STORE.run(tx, values)


def find_receipt(tx: Connection, receipt_id: str) -> SignedReceipt | None:
    """Return the payer's copy of a receipt, or None. Only the payer may see its salts."""
    table = schema.receipts
    row = tx.execute(select(table).where(table.c.id == receipt_id)).first()
    return None if row is None else signed_of(row)


def signed_of(row: Row[Any]) -> SignedReceipt:
    """Return the payer's copy that a row of `receipts` holds."""
    salts = decode_object(row.salts.encode(), max_bytes=MAX_BYTES)
    return SignedReceipt(
        parse_receipt(row.json.encode()),
        bytes.fromhex(row.signature.removeprefix("0x")),
        Salts.from_json(salts) if salts else None,
    )
