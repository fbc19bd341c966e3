"""What a payer shows an auditor of a call: the receipt, and the request if it may be replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.audit.replay import Disclosure
from inference.held import read_bounded, read_receipt
from inference.proof import MAX_BODY_BYTES
from inference.receipts import SignedReceipt


@dataclass(frozen=True)
class Shown:
    """What a payer shows the auditor: a receipt, and the request's bytes if it may be replayed.

    The response is kept beside both, for whoever verifies the receipt itself.
    """

    signed: SignedReceipt
    request: bytes | None = None
    response: bytes | None = None


def disclosures(shown: Sequence[Shown]) -> dict[str, Disclosure]:
    """Return what can be replayed: a request without its salt proves nothing."""
    return {
        one.signed.receipt.id: Disclosure(
            one.request,
            one.signed.salts.request,
            response=one.response,
            response_salt=one.signed.salts.response,
        )
        for one in shown
        if one.request is not None and one.signed.salts is not None
    }


def read_shown(path: Path) -> Shown:
    """Read a receipt's file, and beside it the request and the response (`.request`, `.response`).

    Raises `FormatError` for what is no receipt, `ConfigError` for a file that is not there.
    """
    beside = [path.with_suffix(suffix) for suffix in (".request", ".response")]
    bodies = [read_bounded(one, MAX_BODY_BYTES) if one.exists() else None for one in beside]
    return Shown(read_receipt(path), *bodies)


def save_shown(path: Path, shown: Shown) -> None:
    """Write a receipt, and request and response beside it."""
    path.write_text(json.dumps(shown.signed.bundle(), indent=2) + "\n")
    for suffix, body in ((".request", shown.request), (".response", shown.response)):
        if body is not None:
            path.with_suffix(suffix).write_bytes(body)
