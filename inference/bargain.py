"""What a payer agreed to in one call, and whether the node's receipt keeps to it.

A receipt may be in order and yet be no receipt for this call:

1. it is about this payer, and the model that was asked for
2. it quotes no more than the payer accepted when it signed the payment
3. it was served while the payer waited for it
4. an answer that came whole is stated as whole; one that never came costs nothing
5. the standard x402 receipt beside it is the node's, and the very one that ours names
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from inference.audit.document import FormatError
from inference.errors import AuditError
from inference.offer_receipt import verify_payment_receipt
from inference.receipt_format import FAILED, OK, REFUSED
from inference.receipts import SignedReceipt
from registry.errors import SignatureError

_STATEMENT: Final = 4
_CHARGE: Final = 5
# How far the node's clock may be from ours, in seconds.
CLOCK_S: Final = 300
# Bytes of an answer that evidence shows.
_EXCERPT: Final = 500


@dataclass
class Bargain:
    """One call of `payer`: the exact bytes it sends, and when, in unix seconds.

    `accepted` is the most that it may cost, in atomic units: what the payer signed for it.
    """

    request: bytes
    payer: str
    sent_at: float = field(default_factory=time.time)
    accepted: int = 0

    def check(self, signed: SignedReceipt) -> None:
        """Raise `AuditError` (4 or 5) unless the receipt is one for this call (1 to 3)."""
        self._check_subject(signed)
        payment, served_at = signed.receipt.payment, signed.receipt.served_at
        if payment.charged and payment.quote > self.accepted:
            text = f"quoted {payment.quote}, the payer accepted {self.accepted}"
            raise _false(_CHARGE, text, signed, accepted=str(self.accepted))
        late, early = served_at - time.time(), self.sent_at - served_at
        if max(late, early) > CLOCK_S:
            text = f"served at {served_at}, the payer asked at {int(self.sent_at)}"
            raise _false(_STATEMENT, text, signed, askedAt=int(self.sent_at))

    def check_whole(self, signed: SignedReceipt, answer: bytes, *, is_ended: bool = True) -> None:
        """Raise `AuditError` (4) unless the answer came to its end, and the receipt says so (4)."""
        if not is_ended:
            text = "the stream stopped before its end, and the node signed for it"
            raise _false(_STATEMENT, text, signed, answer=_excerpt(answer))
        if signed.receipt.status != OK:
            text = f"the whole answer came, and the receipt says: {signed.receipt.status}"
            raise _false(_STATEMENT, text, signed, answer=_excerpt(answer))

    def check_nothing(self, signed: SignedReceipt, answer: bytes) -> None:
        """Raise `AuditError` (5) where no answer came and the receipt charges for one (4)."""
        if signed.receipt.status not in (FAILED, REFUSED):
            text = "the receipt charges for an answer that never came"
            raise _false(_CHARGE, text, signed, answer=_excerpt(answer))

    def check_standard(
        self, signed: SignedReceipt, settlement: Mapping[str, Any], node: str
    ) -> None:
        """Raise `AuditError` (4) unless the x402 receipt beside it is the one it names (5)."""
        match settlement.get("extensions"):
            case {"offer-receipt": {"info": {"receipt": standard}}}:
                pass
            case _:
                return
        try:
            stated, signer = verify_payment_receipt(standard)
        except (FormatError, SignatureError) as error:
            text = f"the x402 receipt beside it: {error.message}"
            raise _false(_STATEMENT, text, signed, x402Receipt=standard) from error
        if signer != node or stated.payer != self.payer:
            text = f"the x402 receipt beside it is by {signer}, about payer {stated.payer}"
            raise _false(_STATEMENT, text, signed, x402Receipt=standard)
        if stated.digest() != signed.receipt.payment.x402_receipt:
            text = "the x402 receipt beside it is not the one that it names"
            raise _false(_STATEMENT, text, signed, x402Receipt=standard)

    def read(self, signed: SignedReceipt, answer: bytes) -> Any:
        """Return the JSON of an answer. Raises `AuditError` (4) for one that is none."""
        try:
            return json.loads(answer)
        except ValueError as error:
            text = "the node signed for an answer that is none"
            raise _false(_STATEMENT, text, signed, answer=_excerpt(answer)) from error

    def _check_subject(self, signed: SignedReceipt) -> None:
        """Raise `AuditError` (4) unless it is about this payer and the model asked for.

        One asked for by its ModelId must be exactly that; a name is the node's own word.
        """
        receipt, asked = signed.receipt, str(json.loads(self.request)["model"])
        answered = receipt.model.name
        if asked.startswith("0x"):
            answered = "0x" + receipt.model.model_id.hex()
        if answered != asked.lower() and answered != asked:
            raise _false(_STATEMENT, f"model {answered} answered, {asked} was asked", signed)
        if receipt.payment.payer != self.payer:
            raise _false(_STATEMENT, f"the receipt is about payer {receipt.payment.payer}", signed)


def no_receipt(answer: bytes) -> AuditError:
    """Return the error about an answer that came without a receipt."""
    evidence = {"answer": _excerpt(answer)}
    return AuditError(_STATEMENT, "the answer came without a receipt", evidence=evidence)


def _excerpt(answer: bytes) -> str:
    return answer[:_EXCERPT].decode("utf-8", errors="replace")


def _false(check: int, message: str, signed: SignedReceipt, **more: object) -> AuditError:
    return AuditError(check, message, evidence={"receipt": signed.bundle(), **more})
