"""The bench's payer pays by the rules: what it sends passes the node's own verification."""

from __future__ import annotations

import time

import pytest
from engine_bench.stream import Received
from engine_bench.wallet import Wallet

from inference.errors import PaymentRefusedError
from inference.payments.channel import SCHEME, DepositPayment, parse_batch_payload
from inference.payments.offers import Offers
from inference.payments.verification import VerifiedPayment, verify_payment
from inference.payments.x402 import Requirements, decode_payment, settle_response
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference.payments.payer import TERMS, TOKEN

QUOTE = 228
KEY = Signer(b"\x11" * 32)
OFFERS = Offers(
    "http://127.0.0.1/v1/chat/completions",
    (
        Requirements(
            scheme=SCHEME,
            network="eip155:31337",
            amount=QUOTE,
            asset=TOKEN.address,
            pay_to=TERMS.receiver,
            max_timeout_seconds=600,
            extra=TERMS.extra(),
        ),
    ),
)
CONTRACTS = Deployment(
    chain_id=31337,
    model_registry=TERMS.receiver,
    attestations=TERMS.receiver,
    audit_anchor=TERMS.receiver,
    payment_channels=TERMS.contract,
    deposit_collector=TERMS.collector,
)


def answer(status: int, **headers: str) -> Received:
    lines = [f"HTTP/1.1 {status} Any", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    return Received(0.0, ((1.0, "\r\n".join((*lines, "", "")).encode()),))


def wallet(number: int = 0) -> Wallet:
    demand = answer(402, PAYMENT_REQUIRED=OFFERS.demand(None))
    return Wallet(KEY, CONTRACTS, demand, number=number)


def verified(headers: dict[str, str]) -> VerifiedPayment:
    payment = decode_payment(headers["PAYMENT-SIGNATURE"])
    OFFERS.match(payment)
    return verify_payment(parse_batch_payload(payment.payload), TERMS, now=int(time.time()))


def test_a_call_that_was_not_served_stops_the_bench() -> None:
    with pytest.raises(PaymentRefusedError):
        wallet().book(answer(402))


def test_a_deposit_passes_the_nodes_verification() -> None:
    payment = verified(wallet().headers(deposit=5000)).payment
    assert isinstance(payment, DepositPayment)
    assert (payment.amount, payment.voucher.max_claimable) == (5000, QUOTE)


def test_the_next_voucher_builds_upon_what_the_node_says_it_charged() -> None:
    payer = wallet()
    assert verified(payer.headers()).payment.voucher.max_claimable == QUOTE
    extra = {"channelState": {"chargedCumulativeAmount": "200"}}
    settled = settle_response(success=True, network="eip155:31337", extra=extra)
    payer.book(answer(200, PAYMENT_RESPONSE=settled))
    assert verified(payer.headers()).payment.voucher.max_claimable == 200 + QUOTE


def test_each_worker_has_a_channel_of_its_own() -> None:
    channels = {verified(wallet(number).headers()).channel_id for number in range(3)}
    assert len(channels) == 3
