"""An exact payment is refused with x402's code for whatever is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference.errors import NodeError, PaymentRefusedError
from inference.payments.eip3009 import RECEIVE, Authorization
from inference.payments.exact import (
    VerifiedAuthorization,
    parse_authorization,
    verify_authorization,
)
from registry.signing.signer import Signer
from tests.inference.payments.payer import NOW, RECEIVER, TERMS, TOKEN, Payer, make_terms

PAYLOAD = "invalid_exact_evm_payload_"


def to_json(authorization: Authorization) -> dict[str, Any]:
    return {
        "signature": f"0x{authorization.signature.hex()}",
        "authorization": {
            "from": authorization.payer,
            "to": authorization.to,
            "value": str(authorization.value),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": f"0x{authorization.nonce.hex()}",
        },
    }


def verify(authorization: Authorization, amount: int = 100) -> VerifiedAuthorization:
    return verify_authorization(
        parse_authorization(to_json(authorization)),
        token=TOKEN,
        pay_to=RECEIVER,
        amount=amount,
        now=NOW,
    )


def refusal(authorization: Authorization, amount: int = 100) -> str:
    with pytest.raises(PaymentRefusedError) as caught:
        verify(authorization, amount)
    return caught.value.code.removeprefix(PAYLOAD)


@pytest.mark.parametrize(
    ("name", "value"),
    [("from", "0x1"), ("value", 100), ("value", "1.5"), ("nonce", "0x01"), ("validBefore", None)],
)
def test_a_field_of_the_wrong_shape_is_refused(name: str, value: object) -> None:
    payload = to_json(Payer().authorize(value=100))
    payload["authorization"][name] = value
    with pytest.raises(PaymentRefusedError) as caught:
        parse_authorization(payload)
    assert caught.value.code == "invalid_payload"


def test_a_payload_without_authorization_is_refused() -> None:
    with pytest.raises(PaymentRefusedError):
        parse_authorization({"signature": "0x"})


def test_a_payment_to_somebody_else_is_refused() -> None:
    assert refusal(Payer().authorize(value=100, to=Payer().key.address)) == "recipient_mismatch"


@pytest.mark.parametrize("amount", [99, 101])
def test_a_payment_of_another_amount_is_refused(amount: int) -> None:
    assert refusal(Payer().authorize(value=amount)) == "authorization_value_mismatch"


def test_a_payment_that_ends_too_soon_is_refused() -> None:
    late = Payer().authorize(value=100, valid_before=NOW + 5)
    assert refusal(late) == "authorization_valid_before"
    verify(Payer().authorize(value=100, valid_before=NOW + 6))


def test_a_payment_that_begins_later_is_refused() -> None:
    early = Payer().authorize(value=100, valid_after=NOW + 1)
    assert refusal(early) == "authorization_valid_after"
    verify(Payer().authorize(value=100, valid_after=NOW))


def test_a_payment_signed_by_somebody_else_is_refused() -> None:
    thief = Payer(key=Signer.random()).authorize(value=100)
    assert refusal(replace(thief, payer=Payer().key.address)) == "signature"


def test_a_payment_signed_for_another_use_token_or_chain_is_refused() -> None:
    assert refusal(Payer().authorize(RECEIVE, value=100)) == "signature"
    for change in ({"chain_id": 1}, {"name": "USDC"}, {"version": "2"}, {"address": RECEIVER}):
        elsewhere = make_terms(token=replace(TERMS.token, **change))
        assert refusal(Payer(elsewhere).authorize(value=100)) == "signature"


@pytest.mark.parametrize("signature", [b"", b"\0" * 65, b"\1" * 64, b"\1" * 200])
def test_a_signature_of_no_key_is_refused(signature: bytes) -> None:
    assert refusal(replace(Payer().authorize(value=100), signature=signature)) == "signature"


def test_nobody_else_makes_a_verified_authorization() -> None:
    with pytest.raises(NodeError):
        VerifiedAuthorization(Payer().authorize(value=100), TOKEN, object())


def test_a_right_payment_is_accepted() -> None:
    payment = Payer().authorize(value=100)
    assert verify(payment).authorization == payment
