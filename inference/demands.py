"""The 402: what would be accepted for a call, and which extensions of x402 the node speaks.

This is the one place where extensions are declared. A client sends back what it was shown, so all
of it together must fit the headers that proxies let through: a few KiB.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from inference.call import Answer
from inference.discovery import discovery
from inference.errors import PaymentRefusedError
from inference.offer_receipt import Offer, sign
from inference.payments.offers import Offers
from inference.payments.x402 import PAYMENT_REQUIRED, Requirements
from registry.signing.canonical import JsonObject
from registry.signing.signer import Signer

# Equal offers made within this many seconds end together, so that one signature serves them all.
_ROUND_S: Final = 60
_OFFERS_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"offers": {"type": "array"}},
    "required": ["offers"],
}


@dataclass(frozen=True)
class Demands:
    """Makes 402 answers; `signer` signs the offers in them."""

    signer: Signer

    def answer(
        self, offers: Offers, model: str, refusal: PaymentRefusedError | None = None
    ) -> Answer:
        """Return the 402 for a call of `model`, and why the payment that came was not accepted."""
        header = offers.demand(refusal, self.extensions(offers, model))
        error = refusal or PaymentRefusedError("payment_required", "this call must be paid")
        return Answer(402, b"", {PAYMENT_REQUIRED: header, "Cache-Control": "no-store"}, error)

    def extensions(self, offers: Offers, model: str) -> Mapping[str, object]:
        """Return what `extensions` of PaymentRequired declares, by name."""
        declared: dict[str, object] = {"offer-receipt": self._offers(offers)}
        if shown := discovery(urlsplit(offers.url).path, model):
            declared["bazaar"] = shown
        return declared

    def _offers(self, offers: Offers) -> dict[str, object]:
        now = int(time.time())
        signed = [
            {"acceptIndex": index, **_signed(self.signer, _offer(offers.url, entry, now))}
            for index, entry in enumerate(offers.accepts)
        ]
        return {"info": {"offers": signed}, "schema": _OFFERS_SCHEMA}


def _offer(url: str, entry: Requirements, now: int) -> Offer:
    end = now + entry.max_timeout_seconds
    return Offer(
        resource_url=url,
        scheme=entry.scheme,
        network=entry.network,
        asset=entry.asset,
        pay_to=entry.pay_to,
        amount=str(entry.amount),
        valid_until=end + -end % _ROUND_S,
    )


@lru_cache(maxsize=4096)
def _signed(signer: Signer, offer: Offer) -> JsonObject:
    return sign(signer, offer)
