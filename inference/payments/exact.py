"""The x402 scheme `exact` on EVM: the payer authorises one transfer of exactly the quote.

Source: x402 v2, scheme `exact`, asset transfer method EIP-3009. The payer is a key, or a contract
that approved the signature (`wallet`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from inference.errors import NodeError, PaymentRefusedError
from inference.payments.eip3009 import TRANSFER, Authorization, Token
from inference.payments.fields import Fields
from inference.payments.wallet import Approval

SCHEME: Final = "exact"
_PAYLOAD: Final = "invalid_exact_evm_payload_"
_CODES: Final = {
    "signature": "signature",
    "valid_before": "authorization_valid_before",
    "valid_after": "authorization_valid_after",
}
_MINT: Final = object()


@dataclass(frozen=True)
class VerifiedAuthorization:
    """An authorisation whose amount, receiver, times and signature hold.

    Only `verify_authorization` makes one.
    """

    authorization: Authorization
    token: Token
    mint: object
    approval: Approval | None = None

    def __post_init__(self) -> None:
        if self.mint is not _MINT:
            raise NodeError("a VerifiedAuthorization comes from verify_authorization only")


def parse_authorization(payload: Mapping[str, object]) -> Authorization:
    """Read the `payload` of an exact payment. Raises `PaymentRefusedError`."""
    fields = Fields(payload, "payload", _malformed)
    authorization = fields.nested("authorization")
    return Authorization(
        payer=authorization.address("from"),
        to=authorization.address("to"),
        value=authorization.amount("value", bits=256),
        valid_after=authorization.amount("validAfter", bits=256),
        valid_before=authorization.amount("validBefore", bits=256),
        nonce=authorization.bytes32("nonce"),
        signature=fields.hex("signature"),
    )


def verify_authorization(
    authorization: Authorization,
    *,
    token: Token,
    pay_to: str,
    amount: int,
    now: int,
    approval: Approval | None = None,
) -> VerifiedAuthorization:
    """Check an authorisation against an offer; `now` is in unix seconds.

    In the order of x402's verifiers: receiver, value, times, signature. Whether the nonce is
    unused and the balance suffices only the chain knows. Raises `PaymentRefusedError`, last of all
    `WalletSignatureError`: who gets the payer's `approval` then, may call again with it.
    """
    if authorization.to != pay_to:
        raise PaymentRefusedError(
            _PAYLOAD + "recipient_mismatch", f"the payment is to {authorization.to}, not {pay_to}"
        )
    if authorization.value != amount:
        raise PaymentRefusedError(
            _PAYLOAD + "authorization_value_mismatch",
            f"the payment is of {authorization.value}, the price is {amount}",
        )
    authorization.check(TRANSFER, token, now=now, refuse=_refuse, approval=approval)
    if approval is not None:
        authorization = replace(authorization, signature=approval.signature)
    return VerifiedAuthorization(authorization, token, _MINT, approval)


def _refuse(what: str, message: str) -> PaymentRefusedError:
    return PaymentRefusedError(_PAYLOAD + _CODES[what], message)


def _malformed(message: str) -> PaymentRefusedError:
    return PaymentRefusedError("invalid_payload", message)
