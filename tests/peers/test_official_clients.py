"""Software of others, unmodified, pays our node: npm `@x402/*`, and the `openai` SDK over x402."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from eth_account import Account
from x402 import x402Client
from x402.http.clients import x402_httpx_transport
from x402.mechanisms.evm.batch_settlement.client.scheme import BatchSettlementEvmScheme
from x402.mechanisms.evm.signers import EthAccountSignerWithRPC

from registry.chain.dev_usd import ONE, balance, mint
from registry.signing.signer import Signer
from tests.e2e.market import CHAT, CHAT_PATH, CLASSIFIER, CLASSIFY_PATH, Market, ask, opened
from tests.peers.clients import Customer, javascript, refund

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with opened(tmp_path_factory.mktemp("peers")) as market:
        yield market


@pytest.fixture
def wallet(market: Market) -> Signer:
    """A fresh wallet with ten dollars."""
    signer = Signer.random()
    token = market.workspace.config.contracts.dev_usd or ""
    deployer = market.workspace.signer("deployer")
    mint(market.workspace.chain, deployer, token, signer.address, 10 * ONE)
    return signer


def customer(market: Market, wallet: Signer, path: str, scheme: str) -> Customer:
    return Customer(market.node.url + path, market.devnet.rpc_url, wallet, scheme)


def test_the_javascript_client_pays_through_a_channel_and_is_refunded(
    market: Market, wallet: Signer
) -> None:
    bodies = [ask("one"), ask("two"), ask("three", stream=True), ask("four")]
    payer = customer(market, wallet, CHAT_PATH, "batch-settlement")
    *calls, refunded = javascript(payer, [*bodies, refund()])
    assert [one["status"] for one in calls] == [200] * 4
    extras = [one["settled"]["extra"] for one in calls]
    told = [int(extra["chargedAmount"]) for extra in extras]
    totals = [int(extra["channelState"]["chargedCumulativeAmount"]) for extra in extras]
    assert totals == [sum(told[: n + 1]) for n in range(4)]
    assert refunded["success"]
    token = market.workspace.config.contracts.dev_usd or ""
    receipts = [
        entry["body"]["receipt"]["payment"]
        for entry in market.log_entries()
        if entry["kind"] == "receipt"
    ]
    spent = sum(int(p["charged"]) for p in receipts if p["payer"] == wallet.address)
    assert balance(market.workspace.chain, token, wallet.address) == 10 * ONE - spent


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT_PATH, ask("one")), (CLASSIFY_PATH, {"model": CLASSIFIER, "input": "fine"})],
    ids=["chat", "classify"],
)
def test_the_javascript_client_pays_by_exact(
    market: Market, wallet: Signer, path: str, body: dict[str, Any]
) -> None:
    calls = javascript(customer(market, wallet, path, "exact"), [body, body])
    assert [one["status"] for one in calls] == [200, 200]
    assert all(one["settled"]["transaction"].startswith("0x") for one in calls)


def sdk(market: Market, wallet: Signer) -> openai.AsyncOpenAI:
    signer = EthAccountSignerWithRPC(Account.from_key(wallet.secret()), market.devnet.rpc_url)
    client = x402Client().register("eip155:31337", BatchSettlementEvmScheme(signer))
    client.set_spend_controls({"allowed_assets": True})
    http = httpx.AsyncClient(transport=x402_httpx_transport(client), timeout=60)
    return openai.AsyncOpenAI(
        base_url=market.node.url + "/v1", api_key="not used", http_client=http
    )


def test_the_openai_sdk_gets_an_answer(market: Market, wallet: Signer) -> None:
    async def go() -> Any:
        async with sdk(market, wallet) as client:
            return await client.chat.completions.create(
                model=CHAT,
                messages=[{"role": "user", "content": "Hello"}],
                max_tokens=8,
                temperature=0,
            )

    answer = asyncio.run(go())
    assert answer.choices[0].message.role == "assistant"
    assert 0 < answer.usage.completion_tokens <= 8


def test_the_openai_sdk_gets_a_stream(market: Market, wallet: Signer) -> None:
    async def go() -> list[Any]:
        async with sdk(market, wallet) as client:
            stream = await client.chat.completions.create(
                model=CHAT,
                messages=[{"role": "user", "content": "Hello"}],
                max_tokens=8,
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            return [chunk async for chunk in stream]

    chunks = asyncio.run(go())
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].usage.completion_tokens > 0
    assert chunks[-1].model_extra["weightproof"]["receipt"]["status"] == "ok"


def test_the_openai_sdk_lists_the_models(market: Market, wallet: Signer) -> None:
    async def go() -> list[str]:
        async with sdk(market, wallet) as client:
            return [model.id async for model in await client.models.list()]

    assert asyncio.run(go()) == [CHAT, CLASSIFIER]
