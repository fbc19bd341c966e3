"""What would be accepted for one call, and which of it a payment echoes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference.errors import CorrectivePaymentError, PaymentRefusedError
from inference.payments.x402 import PaymentPayload, Requirements, matches, payment_required


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
            "invalid_payment_requirements",
            "the payment is for another offer; ask again without it to see the present one",
        )
