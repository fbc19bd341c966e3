"""Calls that are paid, over the wire, with the official Python client."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from inference.audit_command import run_audit
from inference.client import CHAT as CHAT_ROUTE
from inference.client import PaidAnswer
from inference.config import load
from inference.demo.node_process import NodeProcess
from inference.demo.purchases import payer
from inference.demo.refusals import flip_a_bit
from inference.errors import AuditError, NodeError, PaymentRefusedError, RequestError
from inference.office import Office
from inference.shown import Shown
from registry.chain.dev_usd import balance
from registry.signing.signer import Signer
from registry.terminal import Terminal
from tests.e2e.market import CHAT, CLASSIFIER, CLASSIFY_PATH, Market, ask


def call(market: Market, body: dict[str, Any], **options: Any) -> PaidAnswer:
    async def go() -> PaidAnswer:
        async with market.payer(**options) as payer:
            route = CLASSIFY_PATH if body["model"] == CLASSIFIER else CHAT_ROUTE
            return await payer.call(route, body)

    return asyncio.run(go())


def stream(market: Market, body: dict[str, Any], **options: Any) -> tuple[PaidAnswer, str]:
    heard: list[str] = []

    async def go() -> PaidAnswer:
        async with market.payer(**options) as payer:
            return await payer.stream(CHAT_ROUTE, body, heard.append)

    return asyncio.run(go()), "".join(heard)


def test_a_deposit_that_is_declined_pays_nothing(market: Market) -> None:
    token = market.workspace.config.contracts.dev_usd or ""
    payer = market.workspace.signer("payer").address
    before = balance(market.workspace.chain, token, payer)
    with pytest.raises(PaymentRefusedError, match="declined"):
        call(market, ask(), confirm=lambda amount: False)
    assert balance(market.workspace.chain, token, payer) == before


def test_an_exact_payment_that_is_declined_pays_nothing(market: Market) -> None:
    with pytest.raises(PaymentRefusedError, match="declined"):
        call(
            market,
            {"model": CLASSIFIER, "input": "no"},
            scheme="exact",
            confirm=lambda amount: False,
        )


def test_a_chat_answer_is_paid_through_a_channel_and_its_receipt_holds(market: Market) -> None:
    asked: list[int] = []
    answer = call(market, ask(), confirm=lambda amount: asked.append(amount) or True)
    receipt = answer.signed.receipt
    assert len(asked) == 1
    assert receipt.status == "ok"
    assert receipt.model.model_id == market.models[CHAT]
    assert 0 < receipt.payment.charged <= receipt.payment.quote
    assert receipt.tokens.output <= 8
    assert answer.settlement["extra"]["chargedAmount"] == str(receipt.payment.charged)
    assert answer.settlement["extensions"]["offer-receipt"]["info"]["receipt"]["format"] == "eip712"


def test_a_client_that_lost_its_state_resumes_from_the_corrective_answer(market: Market) -> None:
    first = call(market, ask("again"))
    second = call(market, ask("and again"), confirm=lambda amount: False)
    before, after = first.signed.receipt.payment, second.signed.receipt.payment
    assert after.channel == before.channel
    assert after.cumulative == before.cumulative + after.charged


def test_a_stream_carries_its_receipt_and_gives_the_unused_rest_back(market: Market) -> None:
    answer, heard = stream(market, ask("stream", max_tokens=64, stop=["a", "e", "t"]))
    receipt = answer.signed.receipt
    assert heard == answer.text
    assert receipt.payment.charged <= receipt.payment.quote
    assert answer.settlement["extra"]["chargedAmount"] == str(receipt.payment.quote)
    unused = receipt.payment.quote - receipt.payment.charged
    after = call(market, ask("after"))
    told = int(after.settlement["extra"]["chargedAmount"])
    assert told == max(0, after.charged - unused)
    assert after.signed.receipt.payment.cumulative == (receipt.payment.cumulative + after.charged)


def test_a_negative_zero_is_a_temperature_and_stands_in_the_receipt(market: Market) -> None:
    answer = call(market, ask("cold", temperature=-0.0))
    assert answer.signed.receipt.sampling.temperature == "0"


def test_streams_at_once_on_one_channel_are_all_served(market: Market) -> None:
    async def one(payer: Any, number: int) -> PaidAnswer:
        answer: PaidAnswer = await payer.stream(CHAT_ROUTE, ask(f"s{number}"), lambda _: None)
        return answer

    async def go() -> list[Any]:
        async with market.payer() as payer:
            await payer.call(CHAT_ROUTE, ask("open"))
            return await asyncio.gather(*(one(payer, n) for n in range(2)))

    answers = asyncio.run(go())
    assert all(answer.signed.receipt.status == "ok" for answer in answers)


def test_a_reader_that_leaves_midway_is_charged_for_what_it_got(market: Market) -> None:
    async def leave() -> None:
        async with market.payer() as payer:
            sent = ask("leave", max_tokens=1000, stream=True)
            async with payer._http.stream("POST", CHAT_ROUTE, json=sent) as response:
                async for _ in response.aiter_bytes():
                    return

    before = len(market.log_entries())
    asyncio.run(leave())
    deadline = time.monotonic() + 30
    while len(market.log_entries()) == before and time.monotonic() < deadline:
        time.sleep(0.2)
    receipt = market.log_entries()[-1]["body"]["receipt"]
    assert receipt["status"] == "partial"
    assert receipt["response"]["finish"] == "cancelled"
    assert 0 < int(receipt["payment"]["charged"]) < int(receipt["payment"]["quote"])
    assert receipt["tokens"]["output"] < 1000


def test_a_classification_is_paid_by_one_exact_transfer(market: Market) -> None:
    token = market.workspace.config.contracts.dev_usd or ""
    node = market.node.address
    before = balance(market.workspace.chain, token, node)
    answer = call(market, {"model": CLASSIFIER, "input": ["good", "bad"]}, scheme="exact")
    assert [set(item["scores"]) for item in answer.body["data"]] == [{"negative", "positive"}] * 2
    assert balance(market.workspace.chain, token, node) == before + answer.charged
    assert answer.settlement["transaction"].startswith("0x")


def test_an_exact_stream_is_paid_once_and_comes_in_one_piece(market: Market) -> None:
    answer, heard = stream(market, ask("exactly"), scheme="exact")
    assert heard == answer.text
    assert answer.charged == answer.signed.receipt.payment.quote


def test_several_calls_at_once_share_one_channel(market: Market) -> None:
    async def go() -> list[PaidAnswer]:
        async with market.payer() as payer:
            await payer.call(CHAT_ROUTE, ask("first"))
            calls = (payer.call(CHAT_ROUTE, ask(f"call {n}")) for n in range(4))
            return [a for a in await asyncio.gather(*calls, return_exceptions=True)]

    answers = [a for a in asyncio.run(go()) if isinstance(a, PaidAnswer)]
    assert answers
    cumulative = [a.signed.receipt.payment.cumulative for a in answers]
    assert len(set(cumulative)) == len(cumulative)


def test_what_was_sold_is_claimed_settled_anchored_and_audited(market: Market) -> None:
    answer = call(market, ask("audit me"))
    office = Office.open(load(market.config))
    try:
        settled = office.settlement.tick()
        assert settled.claimed == settled.settled > 0
        assert office.settlement.tick().claimed == 0
        anchored = office.settlement.anchor()
        assert anchored.receipt is not None
        assert office.settlement.anchor().receipt is None
    finally:
        office.close()
    report = run_audit(
        load(market.config),
        market.node.url,
        Terminal(as_json=True),
        address=market.node.address,
        shown=[Shown(answer.signed, answer.request)],
    )
    assert report.ok, report.to_json()
    assert all(check.ran for check in report.checks)


def test_what_is_left_in_the_channel_is_refunded(market: Market) -> None:
    async def go() -> tuple[int, Any]:
        async with market.payer() as payer:
            await payer.call(CHAT_ROUTE, ask("refund me"))
            token = market.workspace.config.contracts.dev_usd or ""
            wallet = market.workspace.signer("payer").address
            before = balance(market.workspace.chain, token, wallet)
            settled = await payer.refund(CHAT_ROUTE)
            return balance(market.workspace.chain, token, wallet) - before, settled

    gained, settled = asyncio.run(go())
    assert gained == int(settled["amount"]) > 0
    # The channel can be used again.
    assert call(market, ask("once more")).signed.receipt.status == "ok"


def test_a_receipt_by_another_key_than_expected_is_refused(market: Market) -> None:
    async def go() -> None:
        stranger = SimpleNamespace(url=market.node.url, address=Signer.random().address)
        async with payer(market.config, cast(NodeProcess, stranger)) as wallet:
            await wallet.call(CHAT_ROUTE, ask("who are you"))

    with pytest.raises(AuditError, match="by node"):
        asyncio.run(go())


def test_a_model_asked_for_by_its_id_is_the_one_that_answers(market: Market) -> None:
    model_id = market.models[CHAT]
    answer = call(market, ask("by id") | {"model": "0x" + model_id.hex()})
    assert answer.signed.receipt.model.model_id == model_id


def test_a_model_with_a_flipped_bit_is_not_verified(market: Market, tmp_path: Any) -> None:
    folder = market.config.parent / "llama"
    refusal = flip_a_bit(market.workspace, market.models[CHAT], folder, tmp_path)
    assert "model.safetensors" in refusal


def test_the_models_say_what_was_verified(market: Market) -> None:
    with market.http() as client:
        shown = {m["id"]: m["weightproof"] for m in client.get("/v1/models").json()["data"]}
        health = client.get("/healthz").json()
    assert shown[CHAT]["model_id"] == "0x" + market.models[CHAT].hex()
    assert shown[CHAT]["status"] == "active"
    assert shown[CHAT]["device"]
    assert health["status"] == "ok"


def test_a_revoked_model_is_not_sold_and_the_log_says_why(market: Market) -> None:
    publisher = market.workspace.signer("publisher")
    market.workspace.records.revoke(publisher, market.models[CLASSIFIER], "withdrawn")
    refusal: NodeError | None = None
    deadline = time.monotonic() + 15
    while refusal is None and time.monotonic() < deadline:
        try:
            call(market, {"model": CLASSIFIER, "input": "still?"}, scheme="exact")
        except NodeError as error:
            refusal = error
    assert isinstance(refusal, RequestError)
    assert "revoked" in refusal.message
    with httpx.Client(base_url=market.node.url) as client:
        answer = client.post(CLASSIFY_PATH, json={"model": CLASSIFIER, "input": "x"})
    assert answer.status_code == 410
    assert "PAYMENT-REQUIRED" not in answer.headers
    assert [e for e in market.log_entries() if e["kind"] == "incident"]
    assert call(market, ask("others go on")).signed.receipt.status == "ok"
