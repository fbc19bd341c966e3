"""Discounts, tiers, coupons, trials and subscriptions, through the official Python client.

Nothing about them is told to the client: it is asked for the list price, and charged less.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from inference.audit.document import ZERO_ADDRESS
from inference.audit_command import run_audit
from inference.cli import app
from inference.client import CHAT, CLASSIFY, PaidAnswer
from inference.config import load
from inference.coupon import Coupon, coupon_domain
from inference.errors import RequestError
from inference.receipt_plan import PlanFacts
from registry.chain.dev_usd import ONE, mint
from registry.signing.signer import Signer
from registry.terminal import Terminal
from tests.e2e.shop import Shop, opened
from tests.e2e.wallet import Wallet
from tests.inference import tiny_models

READER = "reader"
TALKER = "talker"
TIMED = "timed"
SUBSCRIBE = "/v1/subscriptions"
PRICE = {"per_call": 100, "input_per_million": 1_000_000, "output_per_million": 2_000_000}
# Who pays in these tests: each wallet has a standing of its own.
AGREED, RICH, LISTED, PLAIN, HELD, BUYER, THIRD, RISING = (
    Signer.anvil(index, chain_id=31337) for index in (4, 5, 6, 7, 8, 9, 2, 1)
)
PRICES = f"""
[prices.tiers]
days = 366
steps = [[250, 100]]
[[prices.contracts]]
payer = "{AGREED.address}"
permille = 333
[prices.trial]
name = "launch"
calls = 2
allow = ["{LISTED.address}"]
min_balance = {ONE * 2000}
[[prices.subscriptions]]
name = "month"
price = 1_000
days = 30
calls = 2
models = ["{READER}"]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(tmp_path_factory.mktemp("plans"), prices=PRICES) as shop:
        folder = shop.config.parent
        reader = shop.publish(tiny_models.bert_classifier(folder / READER), "classify")
        shop.place(READER, reader, price=PRICE)
        shop.place(TIMED, reader, price={"per_second": 1_000_000, "most_seconds": 2})
        talker = shop.publish(tiny_models.llama(folder / TALKER, context=2048), "chat")
        shop.place(TALKER, talker, price=PRICE)
        chain, deployer = shop.workspace.chain, shop.workspace.signer("deployer")
        token = shop.workspace.config.contracts.dev_usd or ""
        for signer in (RICH, LISTED, PLAIN, HELD, BUYER, THIRD, RISING):
            mint(chain, deployer, token, signer.address, ONE * (3000 if signer is HELD else 100))
        yield shop


def read(model: str = READER, text: str = "a fine film") -> tuple[str, dict[str, Any]]:
    return CLASSIFY, {"model": model, "input": text}


def buy(name: str = "month", model: str = READER) -> tuple[str, dict[str, Any]]:
    return SUBSCRIBE, {"model": model, "name": name}


def plan_of(answer: PaidAnswer) -> PlanFacts:
    plan = answer.signed.receipt.plan
    assert plan is not None
    return plan


def coupon(shop: Shop, signer: Signer | None = None, **changes: Any) -> str:
    values: dict[str, Any] = {
        "wallet": ZERO_ADDRESS,
        "models": "",
        "unit": "calls",
        "limit": 1,
        "expires_at": int(time.time()) + 600,
        "nonce": secrets.token_bytes(32),
    }
    domain = coupon_domain(31337, shop.address)
    return Coupon(**(values | changes)).signed(signer or shop.workspace.signer("node"), domain)


def refusal(shop: Shop, text: str) -> dict[str, Any]:
    """Ask for a price with a coupon; return the error."""
    with shop.http() as client:
        answer = client.post(CLASSIFY, json=read()[1], headers={"Weightproof-Coupon": text})
    assert answer.status_code == 400
    error: dict[str, Any] = answer.json()["error"]
    assert (error["code"], error["param"]) == ("coupon_refused", "weightproof-coupon")
    return error


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"expires_at": 1_000}, "ended at unix second 1000"),
        ({"models": "other,more"}, "is for other,more"),
        ({"signer": PLAIN}, "was not signed by this node's operator"),
    ],
    ids=["over", "for another model", "signed by somebody else"],
)
def test_a_coupon_that_does_not_hold_is_refused_before_anything_is_paid(
    shop: Shop, change: dict[str, Any], why: str
) -> None:
    assert why in refusal(shop, coupon(shop, **change))["message"]


@pytest.mark.parametrize("text", ["hello", "e30=", "x" * 5000], ids=["text", "object", "long"])
def test_what_is_no_coupon_is_refused_as_such(shop: Shop, text: str) -> None:
    assert "is not one" in refusal(shop, text)["message"]


def test_a_coupon_for_another_wallet_charges_nothing(shop: Shop) -> None:
    with pytest.raises(RequestError, match=f"the coupon is for {LISTED.address}"):
        Wallet(shop, PLAIN).calls(read(), coupon=coupon(shop, wallet=LISTED.address))
    assert shop.receipts()[-1]["payment"]["charged"] == "0"


def test_a_coupon_does_not_lower_what_exact_moves_on_chain(shop: Shop) -> None:
    with pytest.raises(RequestError, match="exact pays the quote"):
        Wallet(shop, PLAIN).calls(read(), coupon=coupon(shop), scheme="exact")


@pytest.mark.parametrize(
    ("asked", "why"),
    [(buy("year"), "no subscription 'year' here: month"), (buy(model=TALKER), "does not hold for")],
    ids=["unknown", "for another model"],
)
def test_a_subscription_that_is_not_sold_is_refused(
    shop: Shop, asked: tuple[str, dict[str, Any]], why: str
) -> None:
    with pytest.raises(RequestError, match=why):
        Wallet(shop, PLAIN).calls(asked)


def test_a_bearers_coupon_is_free_as_often_as_it_says_whoever_uses_it(shop: Shop) -> None:
    text = coupon(shop, limit=2)
    first = Wallet(shop, PLAIN).calls(read(), coupon=text)[0]
    second = Wallet(shop, THIRD).calls(read(), coupon=text)[0]
    assert (first.charged, second.charged) == (0, 0)
    assert first.settlement["extra"]["chargedAmount"] == "0"
    assert [plan_of(a).allowance.used for a in (first, second)] == [0, 1]
    assert plan_of(first).listed == plan_of(first).allowance.covered > 0
    with pytest.raises(RequestError, match="the coupon is used up"):
        Wallet(shop, THIRD).calls(read(), coupon=text)


def test_a_coupon_for_an_amount_pays_a_part_of_the_call_that_ends_it(shop: Shop) -> None:
    text = coupon(shop, unit="amount", limit=150, wallet=THIRD.address)
    first, second = Wallet(shop, THIRD).calls(read(), read(), coupon=text)
    listed = plan_of(first).listed
    assert (first.charged, second.charged) == (0, 2 * listed - 150)


@pytest.mark.parametrize("signer", [LISTED, HELD], ids=["on the list", "by its balance"])
def test_a_wallet_that_may_try_has_its_calls_free_and_no_more(shop: Shop, signer: Signer) -> None:
    answers = Wallet(shop, signer).calls(read(), read(), read())
    assert [answer.charged for answer in answers][:2] == [0, 0]
    assert answers[2].charged == plan_of(answers[2]).listed
    assert plan_of(answers[1]).allowance.kind == "trial"


def test_calls_at_once_do_not_use_one_free_call_twice(shop: Shop) -> None:
    text = coupon(shop, limit=2)
    # The first of them opens the channel, by one who asks alone.
    assert Wallet(shop, RICH).calls(read(), coupon=text)[0].charged == 0

    async def race() -> list[PaidAnswer | BaseException]:
        async with Wallet(shop, RICH).payer(coupon=text) as one:
            asked = [one.call(*read(text="word " * n)) for n in (1, 2, 3)]
            return await asyncio.gather(*asked, return_exceptions=True)

    served = [answer for answer in asyncio.run(race()) if isinstance(answer, PaidAnswer)]
    assert served
    assert sum(answer.charged == 0 for answer in served) == 1


def test_a_contract_lowers_each_charge_in_the_payers_favour(shop: Shop) -> None:
    async def go() -> tuple[PaidAnswer, PaidAnswer]:
        async with Wallet(shop, AGREED).payer() as payer:
            body = {"model": TALKER, "messages": [{"role": "user", "content": "Hi"}]}
            body |= {"max_tokens": 8, "temperature": 0}
            whole = await payer.call(CHAT, body)
            return whole, await payer.stream(CHAT, body, lambda _: None)

    for answer in asyncio.run(go()):
        plan = plan_of(answer)
        assert (plan.discount.by, plan.discount.permille) == ("contract", 333)
        assert answer.charged == plan.listed * 667 // 1000 < plan.listed


def test_a_tier_counts_what_was_charged_before_and_no_offer_changes(shop: Shop) -> None:
    answers = Wallet(shop, BUYER).calls(read(), read(), read(), read())
    plans = [plan_of(answer) for answer in answers]
    spent = 0
    for answer, plan in zip(answers, plans, strict=True):
        assert plan.discount.spent == spent
        spent += answer.charged
    assert [plan.discount.permille for plan in plans] == [0, 0, 0, 100]
    assert plans[3].discount.step == 250
    assert answers[3].charged == plans[3].listed * 9 // 10
    # What was asked for did not change with it: the client met the border without noticing.
    assert len({answer.signed.receipt.payment.quote for answer in answers}) == 1


def test_a_subscription_is_bought_once_and_calls_cost_nothing_until_it_is_used(shop: Shop) -> None:
    bought, *calls = Wallet(shop, BUYER).calls(buy(), read(), read(), read())
    assert (bought.charged, bought.body["calls"]) == (1_000, 2)
    begun = plan_of(bought).allowance
    assert (begun.kind, begun.id) == ("purchase", f"sub_{bought.signed.receipt.seq}")
    assert [call.charged for call in calls][:2] == [0, 0]
    assert [plan_of(call).allowance.id for call in calls][:2] == [begun.id, begun.id]
    assert calls[2].charged > 0


def test_a_subscription_can_be_bought_by_one_exact_transfer(shop: Shop) -> None:
    bought = Wallet(shop, PLAIN).calls(buy(), scheme="exact")[0]
    assert bought.charged == 1_000
    assert Wallet(shop, PLAIN).calls(read())[0].charged == 0


def test_a_second_of_computing_is_charged_to_the_millisecond(shop: Shop) -> None:
    answer = Wallet(shop, THIRD).calls(read(TIMED))[0]
    plan, payment = plan_of(answer), answer.signed.receipt.payment
    assert payment.quote == 2_000_000
    assert plan.listed == min(plan.time.compute_ms, 2_000) * 1_000
    assert answer.charged == plan.due


def test_prices_are_shown_signed_and_receipts_name_them(shop: Shop) -> None:
    with shop.http() as client:
        shown = {o["offer"]["model"]: o for o in client.get("/v1/prices").json()["data"]}
    assert shown[READER]["offer"]["tiers"] == [{"permille": 100, "spent": "250"}]
    assert shown[READER]["validUntil"] > time.time()
    named = {
        receipt["model"]["name"]: receipt["payment"]["plan"]["offer"]
        for receipt in shop.receipts()
        if "plan" in receipt["payment"]
    }
    assert named[READER] == shown[READER]["offerDigest"]
    assert named[TIMED] == shown[TIMED]["offerDigest"] != named[READER]


def test_an_offer_holds_although_the_price_rises_before_it_is_paid(shop: Shop) -> None:
    folder = shop.config.parent
    model = shop.publish(
        tiny_models.bert_classifier(folder / "rising", ("a", "b", "c")), "classify"
    )
    shop.place("rising", model, price=PRICE)

    def raised(_: int) -> bool:
        # The client has the offer, and is about to pay.
        shop.place("rising", model, price=PRICE | {"per_call": 5_000})
        return True

    held, after = Wallet(shop, RISING).calls(read("rising"), read("rising"), confirm=raised)
    assert held.signed.receipt.payment.price.per_call == 100
    assert after.signed.receipt.payment.price.per_call == 5_000
    with shop.http() as client:
        digest = "0x" + plan_of(held).offer.hex()
        assert client.get(f"/v1/prices/{digest}").json()["price"]["perCall"] == "100"
        assert client.get("/v1/prices/0x12").status_code == 404
        assert client.get("/v1/prices/me").status_code == 404


def test_the_commands_show_prices_and_make_coupons_that_hold(shop: Shop) -> None:
    run = CliRunner()
    where = ["--config", str(shop.config), "--json"]
    shown = run.invoke(app, ["prices", "--node", shop.url, *where])
    found = {offer["model"]: offer for offer in json.loads(shown.stdout)["prices"]}
    assert found[READER]["price"]["perCall"] == "100"
    plain = run.invoke(app, ["prices", "--node", shop.url, "--config", str(shop.config)])
    assert "from 250 on 100 ‰ off" in " ".join(plain.stdout.split())
    made = run.invoke(app, ["coupon", "--calls", "1", "--wallet", PLAIN.address, *where])
    text = json.loads(made.stdout)["coupon"]
    answer = Wallet(shop, PLAIN).calls(read(), coupon=text)[0]
    assert (answer.charged, plan_of(answer).allowance.id) == (0, json.loads(made.stdout)["id"])


@pytest.mark.parametrize(
    "words",
    [[], ["--calls", "1", "--amount", "1"], ["--calls", "1", "--wallet", "me"]],
    ids=["of nothing", "of both", "for nobody"],
)
def test_a_coupon_that_cannot_be_is_not_made(shop: Shop, words: list[str]) -> None:
    made = CliRunner().invoke(app, ["coupon", *words, "--config", str(shop.config)])
    assert made.exit_code == 2


def test_an_audit_of_all_of_it_holds(shop: Shop) -> None:
    report = run_audit(load(shop.config), shop.url, Terminal(as_json=True))
    assert report.ok, json.dumps(report.to_json(), indent=1)
    formats = {receipt["format"] for receipt in shop.receipts()}
    assert formats == {"weightproof/receipt@1", "weightproof/receipt@2"}
