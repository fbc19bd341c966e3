"""Unmodified clients pay through a channel: JavaScript, and Python over httpx and over requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from inference.payments.x402 import decode_header
from tests.peers.clients import CLIENTS, FORGET, Customer, paying_httpx, refund
from tests.peers.counter import QUOTE, Counter, goods, opened_counter

pytestmark = pytest.mark.peer
MISMATCH = "invalid_batch_settlement_evm_cumulative_amount_mismatch"
UNPAID = ("POST", 402, "")
SERVED = ("POST", 200, "")


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with opened_counter(tmp_path_factory.mktemp("counter")) as counter:
        yield counter


@pytest.fixture
def customer(counter: Counter) -> Customer:
    """A fresh wallet with ten dollars; what was said before it came is not heard."""
    customer = Customer(counter.url, counter.rpc_url, counter.wallet())
    counter.heard()
    return customer


@pytest.fixture(params=CLIENTS, ids=str)
def pay(request: pytest.FixtureRequest, customer: Customer) -> Any:
    return partial(CLIENTS[request.param], customer)


def told(bought: dict[str, Any]) -> int:
    return int(bought["settled"]["extra"]["chargedAmount"])


def total(bought: dict[str, Any]) -> int:
    return int(bought["settled"]["extra"]["channelState"]["chargedCumulativeAmount"])


def test_it_deposits_pays_what_is_used_from_nothing_to_all_and_tops_up(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    costs = [30, 0, QUOTE, 1, QUOTE, QUOTE, QUOTE, QUOTE]
    bought = pay([goods(cost) for cost in costs])
    assert [one["status"] for one in bought] == [200] * 8
    assert [told(one) for one in bought] == costs
    assert [total(one) for one in bought] == [sum(costs[: n + 1]) for n in range(8)]
    assert counter.charges(customer.signer.address) == [("ok", cost) for cost in costs]
    heard = counter.heard()
    assert [one.said for one in heard] == [UNPAID, SERVED] * 8
    # 5 × 100 go in at first; after 431 of them were used, 100 more do not fit.
    moved = [bool(one["settled"]["transaction"]) for one in bought]
    assert moved == [True, *[False] * 6, True]
    assert bought[0]["settled"]["amount"] == "500"
    assert all(one["settled"]["amount"] == "" for one in bought[1:7])


def test_it_recovers_when_it_has_lost_what_it_knew(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    bought = pay([goods(30), goods(20), FORGET, goods(5), goods(7)])
    assert [one["status"] for one in bought if one] == [200] * 4
    assert total(bought[4]) == 30 + 20 + 5 + 7
    heard = counter.heard()
    assert [one.said for one in heard[4:]] == [
        UNPAID,
        ("POST", 402, MISMATCH),
        SERVED,
        UNPAID,
        SERVED,
    ]
    # A client books PAYMENT-RESPONSE whatever the status, and would not look at the correction.
    corrected = heard[5]
    assert corrected.settled is None
    assert corrected.required is not None
    shown = corrected.required["accepts"][0]["extra"]
    assert shown["channelState"]["chargedCumulativeAmount"] == "50"
    assert shown["voucherState"]["signedMaxClaimable"] == "130"
    assert counter.charges(customer.signer.address)[2:] == [("ok", 5), ("ok", 7)]


def test_it_is_refunded_in_part_and_in_whole_and_opens_the_channel_again(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    before = counter.balance(customer.signer.address)
    bought = pay([goods(70), refund(100), goods(20), refund(), goods(10), refund()])
    _, part, _, whole, again, last = bought
    assert (part["success"], part["amount"]) == (True, "100")
    assert whole["amount"] == str(500 - 70 - 100 - 20)
    assert again["settled"]["amount"] == "500"
    assert last["amount"] == "490"
    assert counter.balance(customer.signer.address) == before - 70 - 20 - 10
    asked = [one for one in counter.heard() if one.method == "GET"]
    assert [one.status for one in asked] == [402, 200] * 3
    assert all(one.settled and one.settled["transaction"] for one in asked[1::2])


def test_it_recovers_before_it_asks_for_a_refund(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    _, _, done = pay([goods(40), FORGET, refund()])
    assert (done["success"], done["amount"]) == (True, "460")
    heard = counter.heard()[2:]
    assert [one.said for one in heard] == [
        ("GET", 402, ""),
        ("GET", 402, MISMATCH),
        ("GET", 200, ""),
    ]


def test_what_cannot_be_refunded_is_said(counter: Counter, customer: Customer, pay: Any) -> None:
    _, refused = pay([goods(40), refund(461)])
    assert not refused["success"]
    assert "invalid_batch_settlement_evm_refund_no_balance" in refused["error"]
    assert counter.charges(customer.signer.address) == [("ok", 40)]


def test_a_stream_is_charged_up_front_and_its_rest_is_credit(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    bought = pay([goods(40), goods(10, stream=True), goods(80), goods(50, stream=True)])
    assert [told(one) for one in bought] == [40, QUOTE, 0, 90]
    assert [total(one) for one in bought] == [40, 140, 140, 230]
    assert bought[1]["text"].count('"unit"') == 11
    assert counter.charges(customer.signer.address) == [("ok", cost) for cost in (40, 10, 80, 50)]
    assert [one.said for one in counter.heard()] == [UNPAID, SERVED] * 4


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_work_that_fails_is_not_charged_and_its_deposit_is_booked(
    counter: Counter, customer: Customer, pay: Any, stream: bool
) -> None:
    failing = goods(fails="early", stream=stream)
    bought = pay([failing, goods(30), failing, goods(40)])
    assert [one["status"] for one in bought] == [500, 200, 500, 200]
    assert [told(one) for one in bought] == [0, 30, 0, 40]
    first = bought[0]["settled"]
    assert (first["success"], first["amount"]) == (True, "500")
    assert first["transaction"].startswith("0x")
    # In step all the time: no correction, no second deposit.
    assert [one.said for one in counter.heard()] == [UNPAID, ("POST", 500, ""), UNPAID, SERVED] * 2
    assert not bought[1]["settled"]["transaction"]
    assert counter.charges(customer.signer.address) == [
        ("failed", 0),
        ("ok", 30),
        ("failed", 0),
        ("ok", 40),
    ]


def test_a_stream_that_fails_midway_costs_nothing_in_the_end(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    bought = pay([goods(fails="midway", stream=True), goods(60), goods(60)])
    assert [one["status"] for one in bought] == [200, 200, 200]
    assert "generation_failed" in bought[0]["text"]
    assert [told(one) for one in bought] == [QUOTE, 0, 20]
    assert counter.charges(customer.signer.address) == [("failed", 0), ("ok", 60), ("ok", 60)]


def test_two_clients_of_one_wallet_share_its_channel_and_are_both_corrected(
    counter: Counter, customer: Customer
) -> None:
    first, second = CLIENTS["httpx"], CLIENTS["requests"]
    first(customer, [goods(10)])
    second(customer, [goods(20)])
    (last,) = first(customer, [goods(30)])
    assert total(last) == 60


def test_calls_beside_each_other_share_one_ceiling(counter: Counter, customer: Customer) -> None:
    """All four sign for the same cumulative amount, and what they cost together is below it."""
    beside = [goods(20, beside=4) for _ in range(4)]
    _, together, after = CLIENTS["javascript"](
        customer, [goods(10), {"together": beside}, goods(5)]
    )
    assert [one["status"] for one in together] == [200] * 4
    assert after["status"] == 200
    assert counter.charges(customer.signer.address) == [("ok", c) for c in (10, 20, 20, 20, 20, 5)]
    assert total(after) == 95


def test_it_that_forgot_tops_up_a_channel_that_is_nearly_used_up(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    costs = [QUOTE, QUOTE, QUOTE, QUOTE, 60]
    *_, last = pay([*(goods(cost) for cost in costs), FORGET, goods(90)])
    assert last["status"] == 200
    assert total(last) == sum(costs) + 90
    assert [one.said for one in counter.heard()[-2:]] == [("POST", 402, MISMATCH), SERVED]
    assert last["settled"]["transaction"]


def test_a_stream_is_read_while_the_work_still_goes_on(
    counter: Counter, customer: Customer
) -> None:
    """Its work ends only when a call joins it that is made after its first event was read."""
    waiting = goods(2, stream=True, beside=2)

    async def go() -> tuple[dict[str, Any], list[str]]:
        async with (
            paying_httpx(customer) as http,
            http.stream("POST", counter.url, json=waiting) as answer,
        ):
            events = answer.aiter_lines()
            first = await anext(events)
            told = decode_header(answer.headers["PAYMENT-RESPONSE"])
            CLIENTS["requests"](other, [goods(1, beside=2)])
            return told, [first, *[line async for line in events]]

    other = Customer(counter.url, counter.rpc_url, counter.wallet())
    told, events = asyncio.run(go())
    assert told["extra"]["chargedAmount"] == str(QUOTE)  # type: ignore[index]
    assert len([line for line in events if '"unit"' in line]) == 3
    assert counter.charges(customer.signer.address) == [("ok", 2)]


def test_the_price_follows_the_body_and_a_cheap_calls_payment_buys_no_dear_one(
    counter: Counter, customer: Customer
) -> None:
    CLIENTS["httpx"](customer, [goods(5, limit=10), goods(150, limit=200)])
    heard = counter.heard()
    asked = [one.required["accepts"][0]["amount"] for one in heard if one.required]
    assert asked == ["10", "200"]
    assert counter.charges(customer.signer.address) == [("ok", 5), ("ok", 150)]

    with counter.shop.http() as client:
        sent = {"PAYMENT-SIGNATURE": heard[1].payment}
        client.post(counter.url, json=goods(150, limit=200), headers=sent)
    assert counter.heard()[-1].said == ("POST", 402, "invalid_payment_requirements")
    assert len(counter.charges(customer.signer.address)) == 2
