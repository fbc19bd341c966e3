"""What a node states of tiers and allowances is added up again from the receipts before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference.audit.plan_accounts import PlanAccounts
from inference.errors import AuditError
from inference.price_facts import (
    PriceOffer,
    RateFacts,
    SubscriptionFacts,
    TierFacts,
    TrialFacts,
)
from inference.receipt_plan import NO_DISCOUNT, AllowanceFacts, DiscountFacts, PlanFacts, TimeFacts
from inference.receipts import SignedReceipt, issue
from tests.inference.receipt_samples import (
    ASSET,
    COST,
    DOMAIN,
    NODE,
    PAYER,
    PLAN,
    PRICE,
    QUOTE,
    STRANGER,
    planned,
)

NOW = 1_764_000_000
DAY = 86_400
SINCE = NOW - NOW % DAY
UNTIL = SINCE + DAY
MONTH = NOW + 30 * DAY
POT = AllowanceFacts("coupon", "0xab", "calls", 3, 0, COST, 0)
RATE = RateFacts(PRICE.per_call, PRICE.input_per_million, PRICE.output_per_million, 0, 0)
OFFER = PriceOffer(
    node=NODE.address,
    network="eip155:31337",
    asset=ASSET,
    model="smollm2",
    model_id=b"\x01" * 32,
    price=RATE,
    exact=RATE,
    tier_days=0,
    tiers=(),
    trial=TrialFacts("trial", "calls", 3, 1),
    subscriptions=(SubscriptionFacts("month", COST, 30, "calls", 3),),
)
TIERED = replace(OFFER, tier_days=1, tiers=(TierFacts(COST, 100),))


class Log:
    """Receipts one after another, all under one offer."""

    def __init__(self, offer: PriceOffer = OFFER) -> None:
        self.receipts: dict[int, SignedReceipt] = {}
        self.accounts = PlanAccounts(lambda _: offer, self.receipts.__getitem__)
        self.seq = 0

    def add(
        self, plan: PlanFacts, *, payer: str = PAYER.address, at: int = NOW, **payment: Any
    ) -> SignedReceipt:
        facts = planned(plan, **({"charged": plan.due, "payer": payer} | payment))
        facts = replace(facts, served_at=at)
        signed = issue(NODE, DOMAIN, facts, seq=self.seq, prev=bytes(32))
        self.receipts[self.seq] = signed
        self.seq += 1
        self.accounts.add(signed)
        return signed

    def refuses(self, plan: PlanFacts, reason: str, **more: Any) -> AuditError:
        with pytest.raises(AuditError, match=reason) as caught:
            self.add(plan, **more)
        assert caught.value.check == 5
        return caught.value


def tier(spent: int, permille: int = 0, **changes: Any) -> PlanFacts:
    by, step = ("tier", COST) if permille else ("none", 0)
    facts = DiscountFacts(by, permille, SINCE, UNTIL, spent, step)
    return replace(PLAN, discount=replace(facts, **changes))


def pot(**changes: Any) -> PlanFacts:
    return replace(PLAN, discount=NO_DISCOUNT, allowance=replace(POT, **changes))


def bought(seq: int, **changes: Any) -> PlanFacts:
    said = {"kind": "purchase", "id": f"sub_{seq}", "covered": 0, "until": MONTH} | changes
    return pot(**said)


def subscribed(seq: int, used: int) -> PlanFacts:
    return pot(kind="subscription", id=f"sub_{seq}", used=used, until=MONTH)


# against the offer


@pytest.mark.parametrize(
    "change",
    [
        {"node": STRANGER.address},
        {"network": "eip155:1"},
        {"asset": STRANGER.address},
        {"model_id": bytes(32)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_offer_of_something_else_is_caught(change: dict[str, Any]) -> None:
    Log(replace(OFFER, **change)).refuses(PLAN, "offer is of another node, network, token or model")


def test_a_price_that_was_not_offered_is_caught() -> None:
    other = replace(RATE, per_call=RATE.per_call - 1)
    Log(replace(OFFER, price=other, exact=other)).refuses(PLAN, "none of those offered")
    Log(replace(OFFER, price=other)).add(PLAN)
    Log().refuses(replace(PLAN, time=TimeFacts(1, 1000, 0)), "none of those offered")


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (tier(0, until=UNTIL + 1), "period is not one of 1 days"),
        (tier(0, since=SINCE + 1, until=UNTIL + 1), "period is not one of 1 days"),
        (tier(0, since=0, until=0), "period is not one of 1 days"),
        (tier(COST), "0 thousandths off, the tiers give 100"),
        (tier(0, 100), "100 thousandths off, the tiers give 0"),
        (tier(COST, 99), "99 thousandths off, the tiers give 100"),
        (tier(COST, 99, by="contract", step=0), "99 thousandths off, the tiers give 100"),
        (tier(COST, 100, step=COST - 1), f"does not begin at {COST - 1}"),
    ],
)
def test_another_tier_than_the_offers_is_caught(plan: PlanFacts, reason: str) -> None:
    Log(TIERED).refuses(plan, reason)


def test_tiers_that_are_not_offered_are_caught() -> None:
    Log().refuses(tier(0), "the offer has no tiers")
    Log().refuses(tier(0, 100, since=0, until=0), "100 thousandths off, the tiers give 0")


@pytest.mark.parametrize(
    "change",
    [{"limit": 4}, {"unit": "amount"}, {"until": MONTH + 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_subscription_that_is_not_offered_is_caught(change: dict[str, Any]) -> None:
    Log().refuses(bought(0, **change), "a subscription was sold that is not offered")


def test_a_trial_that_is_not_offered_is_caught() -> None:
    none = replace(OFFER, trial=TrialFacts("", "none", 0, 0))
    Log(none).refuses(pot(kind="trial"), "a trial was used that is not offered")


def test_something_taken_off_an_exact_payment_is_caught() -> None:
    exact = {"scheme": "exact", "charged": QUOTE}
    Log().refuses(pot(), "something was taken off where nothing is", **exact)
    Log().refuses(PLAN, "something was taken off where nothing is", **exact)


# against the receipts before


def test_spending_that_is_not_the_sum_of_the_receipts_before_is_caught() -> None:
    log = Log(TIERED)
    log.add(tier(0))
    log.refuses(tier(COST - 1), f"had spent {COST} in the period, the receipt says {COST - 1}")
    log.refuses(tier(COST, 100), "had spent 0", payer=STRANGER.address)


def test_a_tier_outside_its_period_or_without_one_is_caught() -> None:
    log = Log(TIERED)
    log.refuses(tier(0), "outside its tiers' period", at=UNTIL)
    log.refuses(tier(0), "outside its tiers' period", at=SINCE - 1)
    Log().refuses(tier(5, since=0, until=0), "a tier without a period")


def test_an_allowance_used_oftener_than_stated_is_caught_with_its_first_receipt() -> None:
    log = Log()
    first = log.add(pot())
    error = log.refuses(pot(), "1 of 0xab were used before, the receipt says 0")
    assert error.evidence["before"] == first.public()


@pytest.mark.parametrize(
    "change",
    [{"limit": 4}, {"unit": "amount"}, {"until": MONTH}],
    ids=lambda change: next(iter(change)),
)
def test_an_allowance_that_changes_is_caught(change: dict[str, Any]) -> None:
    log = Log()
    log.add(pot())
    log.refuses(pot(used=1, **change), "was another before")


def test_an_allowance_used_after_its_end_is_caught() -> None:
    Log().refuses(pot(until=NOW), f"ended at {NOW}")


def test_the_trial_or_subscription_of_another_wallet_is_caught() -> None:
    log = Log()
    log.add(pot(kind="trial"))
    log.refuses(pot(kind="trial", used=1), f"is of {PAYER.address}", payer=STRANGER.address)
    log = Log()
    log.add(bought(0))
    log.refuses(subscribed(0, 0), f"is of {PAYER.address}", payer=STRANGER.address)


def test_a_subscription_that_nobody_bought_is_caught() -> None:
    Log().refuses(subscribed(7, 0), "nobody bought subscription sub_7")


@pytest.mark.parametrize("change", [{"id": "sub_1"}, {"used": 1}], ids=["place", "used"])
def test_a_purchase_that_names_another_place_or_begins_used_is_caught(
    change: dict[str, Any],
) -> None:
    Log().refuses(bought(0, **change), "is not the subscription that begins here")


def test_honest_plans_add_up() -> None:
    log = Log(TIERED)
    log.add(tier(0))
    log.add(tier(COST, 100))
    log.add(tier(COST + 115, 200, by="contract", step=0))
    log.add(tier(0), payer=STRANGER.address)
    log.add(tier(0, since=UNTIL, until=UNTIL + DAY), at=UNTIL)
    log = Log()
    for used in range(3):
        log.add(pot(used=used), payer=(PAYER, STRANGER)[used % 2].address)
    log.add(bought(3))
    log.add(subscribed(3, 0), at=MONTH - 1)
    log.add(subscribed(3, 1))
    log.add(PLAN)
