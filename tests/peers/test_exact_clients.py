"""Unmodified clients pay by `exact`: JavaScript, and Python over httpx and over requests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.peers.clients import CLIENTS, Customer
from tests.peers.counter import QUOTE, Counter, goods, opened_counter

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    with opened_counter(tmp_path_factory.mktemp("counter")) as counter:
        yield counter


@pytest.fixture
def customer(counter: Counter) -> Customer:
    customer = Customer(counter.url, counter.rpc_url, counter.wallet(), "exact")
    counter.heard()
    return customer


@pytest.fixture(params=CLIENTS, ids=str)
def pay(request: pytest.FixtureRequest, customer: Customer) -> Any:
    return partial(CLIENTS[request.param], customer)


def test_it_pays_the_quote_of_each_call_streams_too(
    counter: Counter, customer: Customer, pay: Any
) -> None:
    before = counter.balance(customer.signer.address)
    bought = pay([goods(QUOTE), goods(3), goods(5, stream=True)])
    assert [one["status"] for one in bought] == [200] * 3
    assert all(one["settled"]["success"] for one in bought)
    assert all(one["settled"]["transaction"].startswith("0x") for one in bought)
    assert [one["settled"]["amount"] for one in bought] == [str(QUOTE)] * 3
    assert bought[2]["text"].count('"unit"') == 6
    assert counter.balance(customer.signer.address) == before - 3 * QUOTE
    assert counter.charges(customer.signer.address) == [("ok", QUOTE)] * 3
    assert [one.said for one in counter.heard()] == [("POST", 402, ""), ("POST", 200, "")] * 3


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_work_that_fails_moves_no_money(
    counter: Counter, customer: Customer, pay: Any, stream: bool
) -> None:
    before = counter.balance(customer.signer.address)
    early, midway = (goods(fails=when, stream=stream) for when in ("early", "midway"))
    failed = pay([early, midway] if stream else [early])
    assert [one["status"] for one in failed] == [500] * len(failed)
    assert [one["settled"]["success"] for one in failed] == [False] * len(failed)
    assert counter.balance(customer.signer.address) == before
    assert counter.charges(customer.signer.address) == [("failed", 0)] * len(failed)


def test_a_wallet_without_money_is_told_so_before_any_work(counter: Counter) -> None:
    poor = Customer(counter.url, counter.rpc_url, counter.wallet(0), "exact")
    counter.heard()
    (refused,) = CLIENTS["httpx"](poor, [goods()])
    assert refused["status"] == 402
    assert counter.heard()[-1].said == ("POST", 402, "invalid_exact_evm_insufficient_balance")
    assert counter.charges(poor.signer.address) == []
