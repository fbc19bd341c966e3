"""What a payer shows an auditor of a call: the receipt, and the request if it may be replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inference.audit.replay import Disclosure
from inference.receipts import SignedReceipt
from registry.errors import ConfigError


@dataclass(frozen=True)
class Shown:
    """What a payer shows the auditor: a receipt, and the request's bytes if it may be replayed."""

    signed: SignedReceipt
    request: bytes | None = None


def disclosures(shown: Sequence[Shown]) -> dict[str, Disclosure]:
    """Return what can be replayed: a request without its salt proves nothing."""
    return {
        one.signed.receipt.id: Disclosure(one.request, one.signed.salts.request)
        for one in shown
        if one.request is not None and one.signed.salts is not None
    }


def read_shown(path: Path) -> Shown:
    """Read a receipt's file, and the request beside it (the same name with `.request`)."""
    request = path.with_suffix(".request")
    try:
        signed = SignedReceipt.from_json(json.loads(path.read_text()))
        return Shown(signed, request.read_bytes() if request.exists() else None)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path.name} holds no receipt: {error}") from error


def save_shown(path: Path, shown: Shown) -> None:
    """Write a receipt, and the request beside it."""
    path.write_text(json.dumps(shown.signed.bundle(), indent=2) + "\n")
    if shown.request is not None:
        path.with_suffix(".request").write_bytes(shown.request)
