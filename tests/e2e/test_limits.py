"""Whoever asks too often, or opens too many channels, is told so before anything is done."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from inference.client import CLASSIFY
from inference.errors import PaymentRefusedError, RequestError
from registry.chain.dev_usd import ONE, balance, mint
from registry.signing.signer import Signer
from tests.e2e.shop import Shop, opened
from tests.e2e.wallet import Wallet
from tests.inference import tiny_models

READER = "reader"
# The devnet's payer, and one that comes second.
FIRST, SECOND = (Signer.anvil(index, chain_id=31337) for index in (4, 6))
LIMITS = """
[limits]
payer_per_minute = 1
payer_burst = 3
address_per_minute = 600
address_burst = 40
channels = 1
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("limits"), prices=LIMITS) as shop:
        model: Path = tiny_models.bert_classifier(shop.config.parent / READER)
        shop.place(READER, shop.publish(model, "classify"))
        token = shop.workspace.config.contracts.dev_usd or ""
        mint(shop.workspace.chain, shop.workspace.signer("deployer"), token, SECOND.address, ONE)
        yield shop


def test_a_payer_who_calls_too_often_is_refused_and_charged_nothing_for_it(shop: Shop) -> None:
    body = {"model": READER, "input": "often"}
    served: list[int] = []

    async def go() -> None:
        async with Wallet(shop, FIRST).payer() as payer:
            for _ in range(9):
                served.append((await payer.call(CLASSIFY, body)).charged)

    with pytest.raises(RequestError, match="too many calls by this payer; try again in"):
        asyncio.run(go())
    assert len(served) == 3
    charged = [int(receipt["payment"]["charged"]) for receipt in shop.receipts()]
    assert charged == served


def test_a_channel_too_many_is_refused_before_its_deposit_moves(shop: Shop) -> None:
    token = shop.workspace.config.contracts.dev_usd or ""
    with pytest.raises(PaymentRefusedError, match="1 channels are open here already") as refusal:
        Wallet(shop, SECOND).calls((CLASSIFY, {"model": READER, "input": "late"}))
    assert refusal.value.code == "too_many_channels"
    assert balance(shop.workspace.chain, token, SECOND.address) == ONE


def test_who_may_open_no_channel_may_pay_exactly(shop: Shop) -> None:
    asked = (CLASSIFY, {"model": READER, "input": "late"})
    assert Wallet(shop, SECOND).calls(asked, scheme="exact")[0].charged > 0


def test_an_address_that_asks_too_often_is_told_when_to_come_again(shop: Shop) -> None:
    with shop.http() as client:
        answers: list[httpx.Response] = []
        while not answers or answers[-1].status_code != 429:
            answers.append(client.get("/v1/prices"))
            assert len(answers) < 2000
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "rate_limited"
    assert int(refused.headers["Retry-After"]) == 1
    assert {answer.status_code for answer in answers[:-1]} <= {200}
