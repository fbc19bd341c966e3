"""The three headers of x402: strict in what comes in, readable by the official client."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_response_header,
    encode_payment_signature_header,
)
from x402.schemas import PaymentPayload as OfficialPayload

from inference.errors import MalformedPaymentError
from inference.payments.x402 import (
    MAX_HEADER_BYTES,
    Requirements,
    decode_header,
    decode_payment,
    matches,
    payment_required,
    settle_response,
)

OFFER = Requirements(
    scheme="batch-settlement",
    network="eip155:31337",
    amount=1234,
    asset="0x1111111111111111111111111111111111111111",
    pay_to="0x000000000000000000000000000000000000dEaD",
    max_timeout_seconds=60,
    extra={"name": "DevUSD", "version": "1", "withdrawDelay": 900},
)


def honest() -> dict[str, Any]:
    return {"x402Version": 2, "accepted": OFFER.to_json(), "payload": {"type": "voucher"}}


def header(value: object) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "not base64!",
        header(honest())[:-1],
        header(honest()).rstrip("=") if header(honest()).endswith("=") else "a",
        header(honest()) + "\n",
        "é" * 8,
        base64.b64encode(b"\xff\xfe").decode(),
        base64.b64encode(b"{").decode(),
        base64.b64encode(b'{"a":1}trailing').decode(),
        base64.b64encode(b'{"x402Version":NaN}').decode(),
        base64.b64encode(b'{"x402Version":2,"x402Version":2}').decode(),
        base64.b64encode(b'{"a":' + b"9" * 5000 + b"}").decode(),
        base64.b64encode(b"[" * 5000 + b"]" * 5000).decode(),
        base64.b64encode(b"[" * 40 + b"]" * 40).decode(),
        header([]),
        header("text"),
        "A" * (MAX_HEADER_BYTES + 4),
    ],
)
def test_a_header_that_is_not_base64_of_one_small_json_object_is_refused(value: str) -> None:
    with pytest.raises(MalformedPaymentError) as caught:
        decode_payment(value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("x402Version",), 1),
        (("x402Version",), True),
        (("x402Version",), "2"),
        (("accepted",), None),
        (("accepted",), []),
        (("payload",), "voucher"),
        (("extensions",), []),
        (("resource",), "https://node"),
        (("accepted", "amount"), 1234),
        (("accepted", "amount"), "-1"),
        (("accepted", "amount"), "1e3"),
        (("accepted", "amount"), "９"),
        (("accepted", "amount"), "9" * 79),
        (("accepted", "scheme"), 7),
        (("accepted", "network"), None),
        (("accepted", "maxTimeoutSeconds"), "60"),
        (("accepted", "extra"), "none"),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(path: tuple[str, ...], value: object) -> None:
    payment = honest()
    target = payment
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    with pytest.raises(MalformedPaymentError):
        decode_payment(header(payment))


def test_an_echo_that_changes_the_offer_does_not_match() -> None:
    for name, value in {
        "scheme": "exact",
        "network": "eip155:1",
        "amount": "1235",
        "asset": "0x2222222222222222222222222222222222222222",
        "payTo": "0x2222222222222222222222222222222222222222",
        "maxTimeoutSeconds": 61,
        "extra": {"name": "DevUSD", "version": "1"},
    }.items():
        assert not matches(OFFER, {**OFFER.to_json(), name: value})
    assert not matches(OFFER, {**OFFER.to_json(), "extra": {**OFFER.extra, "withdrawDelay": 901}})
    assert not matches(OFFER, {**OFFER.to_json(), "extra": {**OFFER.extra, "withdrawDelay": True}})
    assert not matches(OFFER, {**OFFER.to_json(), "extra": []})


def test_an_echo_that_adds_to_extra_matches() -> None:
    assert matches(OFFER, OFFER.to_json())
    assert matches(OFFER, OFFER.to_json({"channelState": {"balance": "1"}}))


def test_what_the_official_client_sends_is_read() -> None:
    official = OfficialPayload.model_validate(
        {**honest(), "extensions": {"payment-identifier": {"info": {"id": "a" * 16}}}}
    )
    payment = decode_payment(encode_payment_signature_header(official))
    assert payment.scheme == "batch-settlement"
    assert matches(OFFER, payment.accepted)
    assert payment.extensions["payment-identifier"] == {"info": {"id": "a" * 16}}
    assert payment.resource == {}


def test_the_official_client_reads_a_402() -> None:
    exact = Requirements("exact", OFFER.network, 1234, OFFER.asset, OFFER.pay_to, 60, {"name": "D"})
    value = payment_required(
        {"url": "http://node/v1/chat/completions", "description": "ünïcode"},
        [OFFER, exact],
        error="invalid_batch_settlement_evm_cumulative_amount_mismatch",
        extensions={"weightproof": {"info": {}}},
        correction={"channelState": {"chargedCumulativeAmount": "7"}},
    )
    required: Any = decode_payment_required_header(value)
    assert required.x402_version == 2
    assert required.error == "invalid_batch_settlement_evm_cumulative_amount_mismatch"
    assert required.resource.description == "ünïcode"
    assert required.accepts[0].amount == "1234"
    assert required.accepts[0].extra["channelState"] == {"chargedCumulativeAmount": "7"}
    assert required.accepts[1].extra == {"name": "D"}


def test_equal_requirements_give_equal_headers() -> None:
    assert payment_required({"url": "u"}, [OFFER]) == payment_required({"url": "u"}, [OFFER])
    assert "error" not in decode_header(payment_required({"url": "u"}, [OFFER]))


def test_the_official_client_reads_a_settlement() -> None:
    settled = decode_payment_response_header(
        settle_response(
            success=True,
            network=OFFER.network,
            payer=OFFER.pay_to,
            extra={"chargedAmount": "5"},
            extensions={"weightproof": {"receipt": {}}},
        )
    )
    assert settled.success
    assert (settled.transaction, settled.amount) == ("", "")
    assert settled.extra == {"chargedAmount": "5"}
    failed = decode_payment_response_header(
        settle_response(success=False, network=OFFER.network, error=("code", "sentence"))
    )
    assert (failed.error_reason, failed.error_message) == ("code", "sentence")
    deposited = decode_payment_response_header(
        settle_response(success=True, network=OFFER.network, transaction="0xab", amount=9)
    )
    assert (deposited.transaction, deposited.amount) == ("0xab", "9")
