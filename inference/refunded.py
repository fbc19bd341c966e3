"""Was a refund sent? The payer asks the chain, not the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from inference.audit.transfers import transfers_in
from inference.errors import AuditError, UnavailableError
from inference.payments.x402 import decode_header
from registry.chain.connection import Chain
from registry.errors import ChainMismatchError, TransactionFailedError

_CHECK: Final = 5
_TIMEOUT_S: Final = 30.0


def asked(url: str) -> tuple[str, ...]:
    """Return the tokens that a node is paid in at an address, by its own offers."""
    try:
        header = httpx.get(url, timeout=_TIMEOUT_S).headers.get("PAYMENT-REQUIRED", "")
    except httpx.HTTPError as error:
        raise UnavailableError(f"the node does not answer: {type(error).__name__}") from error
    accepts: Any = decode_header(header).get("accepts")
    offers = accepts if isinstance(accepts, list) else []
    return tuple({str(offer["asset"]) for offer in offers if "asset" in offer})


def check_refund(
    chain: Chain, payer: str, settled: Mapping[str, Any], assets: tuple[str, ...]
) -> None:
    """Raise `AuditError` (5) unless the transaction that a node names moved its amount to `payer`.

    Raises `ChainError` when the chain does not answer.
    """
    named, amount = str(settled.get("transaction") or ""), str(settled.get("amount") or "0")
    evidence: dict[str, object] = {"settlement": dict(settled), "payer": payer}
    try:
        tx_hash = bytes.fromhex(named.removeprefix("0x"))
        moved = [move for asset in assets for move in transfers_in(chain, tx_hash, asset)]
    except (ValueError, ChainMismatchError, TransactionFailedError) as error:
        text = f"the refund names transaction {named:.80}, which moved nothing"
        raise AuditError(_CHECK, text, evidence=evidence) from error
    if not any(move.receiver == payer and str(move.amount) == amount for move in moved):
        text = f"transaction {named} did not send {amount:.40} back to {payer}"
        raise AuditError(_CHECK, text, evidence=evidence)
