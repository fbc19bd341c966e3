"""Calls that ended, as the observer tells of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inference.call_facts import CallFacts
from inference.receipt_format import Receipt
from tests.inference import receipt_samples

MODEL = "smollm2"
STARTED_NS = 1_764_000_000_123_000_000


def receipt(**changes: Any) -> Receipt:
    """Return a receipt; keywords change its payment."""
    node = receipt_samples.NODE.address
    return Receipt.of(receipt_samples.call(**changes), seq=3, prev=bytes(32), node=node)


def ended(**changes: Any) -> CallFacts:
    """Return a streamed call that was served: paid after 0.5 s, first token after 0.75 s."""
    facts = CallFacts(
        model=MODEL,
        path="/v1/chat/completions",
        status="ok",
        code="",
        streamed=True,
        started_ns=STARTED_NS,
        paid_s=0.5,
        first_token_s=0.75,
        duration_s=1.5,
        receipt=receipt(),
    )
    return replace(facts, **changes)


def refused(status: str = "refused", **changes: Any) -> CallFacts:
    """Return a call that no receipt speaks of."""
    return ended(
        status=status,
        code="model_not_found",
        model="",
        streamed=False,
        paid_s=None,
        first_token_s=None,
        receipt=None,
        **changes,
    )
