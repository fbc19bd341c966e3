"""What would be accepted for one call, and which of it a payment echoes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from inference.errors import CorrectivePaymentError, PaymentRefusedError
from inference.payments import channel, exact
from inference.payments.verification import Terms
from inference.payments.x402 import PaymentPayload, Requirements, matches, payment_required

# Seconds a signed authorisation stays good: time for a slow generation and a slow block.
PAYMENT_WINDOW_S: Final = 600
# The x402 code for a payment that echoes none of what is offered now.
OTHER_OFFER: Final = "invalid_payment_requirements"


@dataclass(frozen=True)
class Offers:
    """What would be accepted for one call: the entries of `accepts`, in our order."""

    url: str
    accepts: tuple[Requirements, ...]

    def demand(
        self, refusal: PaymentRefusedError | None, extensions: Mapping[str, object] | None = None
    ) -> str:
        """Return the PAYMENT-REQUIRED header, with the code of a refusal and the extensions."""
        corrective = isinstance(refusal, CorrectivePaymentError)
        return payment_required(
            {"url": self.url, "mimeType": "application/json", "serviceName": "Weightproof"},
            self.accepts,
            error=refusal.code if refusal else "",
            extensions=extensions,
            correction=refusal.extra if corrective else None,  # type: ignore[union-attr]  # as tested
        )

    def match(self, payment: PaymentPayload) -> Requirements:
        """Return the entry that a payment echoes. Raises `PaymentRefusedError`."""
        for entry in self.accepts:
            if matches(entry, payment.accepted):
                return entry
        schemes = [entry for entry in self.accepts if entry.scheme == payment.scheme]
        if not schemes:
            raise PaymentRefusedError(
                "unsupported_scheme", f"{payment.scheme!r:.40} is not offered"
            )
        network = schemes[0].network
        if payment.accepted["network"] != network:
            raise PaymentRefusedError("network_mismatch", f"payments here are made on {network}")
        raise PaymentRefusedError(
            OTHER_OFFER,
            "the payment is for another offer; ask again without it to see the present one",
        )


# Equal requests have equal offers, and most requests come twice: without a payment and with one.
@lru_cache(maxsize=1024)
def offers_on(terms: Terms, url: str, amount: int) -> Offers:
    """Return the offers for a call that costs at most `amount`: channels first."""
    token = terms.token
    entry = Requirements(
        scheme=channel.SCHEME,
        network=f"eip155:{token.chain_id}",
        amount=amount,
        asset=token.address,
        pay_to=terms.receiver,
        max_timeout_seconds=PAYMENT_WINDOW_S,
        extra=terms.extra(),
    )
    extra = {"name": token.name, "version": token.version}
    return Offers(url, (entry, replace(entry, scheme=exact.SCHEME, extra=extra)))
