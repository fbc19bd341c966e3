"""The 402: what would be accepted for a call, and which extensions of x402 the node speaks.

This is the one place where extensions are declared. A client sends back what it was shown, so all
of it together must fit the headers that proxies let through: a few KiB.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from inference import sign_in
from inference.call import Answer
from inference.discovery import discovery
from inference.errors import PaymentRefusedError
from inference.offer_receipt import Offer, sign
from inference.payments import identifier
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
    """Makes 402 answers; `signer` signs the offers in them.

    `named` is the declaration of payment-identifier, None where answers are not kept.
    """

    signer: Signer
    named: Mapping[str, object] | None = None

    def answer(
        self,
        offers: Offers,
        model: str,
        refusal: PaymentRefusedError | None = None,
        *,
        extensions: Mapping[str, object] | None = None,
    ) -> Answer:
        """Return the 402 for a call of `model`, and why the payment that came was not accepted.

        `extensions` are those of this call alone.
        """
        declared = {**self.extensions(offers, model), **(extensions or {})}
        header = offers.demand(refusal, declared)
        error = refusal or PaymentRefusedError("payment_required", "this call must be paid")
        return Answer(402, b"", {PAYMENT_REQUIRED: header, "Cache-Control": "no-store"}, error)

    def sign_in(
        self,
        offers: Offers,
        challenge: Mapping[str, object],
        refusal: PaymentRefusedError | None = None,
    ) -> Answer:
        """Return the 402 for what is free to the wallet that signs `challenge`.

        Clients want something to pay there, and to know the chain: it is 0, and not taken. Paid
        routes declare no sign-in: what was answered there once is not what is asked for now.
        """
        free = replace(offers, accepts=offers.accepts[-1:])
        header = free.demand(refusal, {sign_in.NAME: challenge})
        error = refusal or PaymentRefusedError(
            "sign_in_required", "this is for the wallet that paid, by sign-in-with-x"
        )
        return Answer(402, b"", {PAYMENT_REQUIRED: header, "Cache-Control": "no-store"}, error)

    def extensions(self, offers: Offers, model: str) -> Mapping[str, object]:
        """Return what `extensions` of PaymentRequired declares, by name."""
        declared: dict[str, object] = {}
        # What a GET shows is for refunds: signed, it would offer the route for nothing.
        if all(entry.amount for entry in offers.accepts):
            declared["offer-receipt"] = self._offers(offers)
        if shown := discovery(urlsplit(offers.url).path, model):
            declared["bazaar"] = shown
        if self.named is not None:
            declared[identifier.NAME] = self.named
        return declared

    def _offers(self, offers: Offers) -> dict[str, object]:
        now = int(time.time())
        signed = [
            {"acceptIndex": index, **_signed(self.signer, *_terms(offers.url, entry, now))}
            for index, entry in enumerate(offers.accepts)
        ]
        return {"info": {"offers": signed}, "schema": _OFFERS_SCHEMA}


def _terms(url: str, entry: Requirements, now: int) -> tuple[str, str, str, str, str, str, int]:
    """Return the fields of an offer, in their order."""
    end = now + entry.max_timeout_seconds
    ours = (entry.scheme, entry.network, entry.asset, entry.pay_to, str(entry.amount))
    return (url, *ours, end + -end % _ROUND_S)


@lru_cache(maxsize=4096)
def _signed(signer: Signer, *terms: Any) -> JsonObject:
    return sign(signer, Offer(*terms))
