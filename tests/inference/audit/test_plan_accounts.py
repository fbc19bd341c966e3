"""What a node states of tiers and allowances is added up again from the receipts before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from inference.audit.plan_accounts import PlanAccounts
from inference.errors import AuditError
from inference.receipt_plan import NO_DISCOUNT, AllowanceFacts, DiscountFacts, PlanFacts
from inference.receipts import SignedReceipt, issue
from tests.inference.receipt_samples import COST, DOMAIN, NODE, PAYER, PLAN, STRANGER, planned

NOW = 1_764_000_000
SINCE, UNTIL = NOW - 1000, NOW + 1000
POT = AllowanceFacts("coupon", "0xab", "calls", 3, 0, COST, 0)


class Log:
    """Receipts one after another."""

    def __init__(self) -> None:
        self.accounts = PlanAccounts()
        self.seq = 0

    def add(self, plan: PlanFacts, *, payer: str = PAYER.address, at: int = NOW) -> SignedReceipt:
        facts = replace(planned(plan, charged=plan.due, payer=payer), served_at=at)
        signed = issue(NODE, DOMAIN, facts, seq=self.seq, prev=bytes(32))
        self.seq += 1
        self.accounts.add(signed)
        return signed

    def refuses(self, plan: PlanFacts, reason: str, **more: Any) -> AuditError:
        with pytest.raises(AuditError, match=reason) as caught:
            self.add(plan, **more)
        assert caught.value.check == 5
        return caught.value


def tier(spent: int, permille: int = 0, **changes: Any) -> PlanFacts:
    facts = DiscountFacts("tier" if permille else "none", permille, SINCE, UNTIL, spent, 0)
    return replace(PLAN, discount=replace(facts, **changes))


def pot(**changes: Any) -> PlanFacts:
    return replace(PLAN, discount=NO_DISCOUNT, allowance=replace(POT, **changes))


def bought(seq: int, **changes: Any) -> PlanFacts:
    said = {"kind": "purchase", "id": f"sub_{seq}", "covered": 0, "until": UNTIL} | changes
    return pot(**said)


def subscribed(seq: int, used: int, **changes: Any) -> PlanFacts:
    return pot(
        **({"kind": "subscription", "id": f"sub_{seq}", "used": used, "until": UNTIL} | changes)
    )


def test_spending_that_is_not_the_sum_of_the_receipts_before_is_caught() -> None:
    log = Log()
    log.add(tier(0))
    log.refuses(tier(COST - 1), f"had spent {COST} in the period, the receipt says {COST - 1}")
    log.refuses(tier(0, 100), f"had spent {COST}")
    log.refuses(tier(COST), "had spent 0", payer=STRANGER.address)


def test_a_tier_outside_its_period_or_without_one_is_caught() -> None:
    log = Log()
    log.refuses(tier(0), "outside its tiers' period", at=UNTIL)
    log.refuses(tier(0), "outside its tiers' period", at=SINCE - 1)
    log.refuses(tier(0, 100, since=0, until=0), "a tier without a period")


def test_an_allowance_used_oftener_than_stated_is_caught_with_its_first_receipt() -> None:
    log = Log()
    first = log.add(pot())
    error = log.refuses(pot(), "1 of 0xab were used before, the receipt says 0")
    assert error.evidence["before"] == first.public()


@pytest.mark.parametrize("change", [{"limit": 4}, {"unit": "amount"}, {"until": UNTIL}])
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


@pytest.mark.parametrize("change", [{"id": "sub_1"}, {"used": 1}])
def test_a_purchase_that_names_another_place_or_begins_used_is_caught(
    change: dict[str, Any],
) -> None:
    Log().refuses(bought(0, **change), "is not the subscription that begins here")


def test_honest_plans_add_up() -> None:
    log = Log()
    log.add(tier(0))
    log.add(tier(COST, 100))
    log.add(tier(COST + 115), at=NOW)
    log.add(tier(0), payer=STRANGER.address)
    log.add(tier(0, since=UNTIL, until=UNTIL + 2000), at=UNTIL)
    for used in range(3):
        log.add(pot(used=used), payer=(PAYER, STRANGER)[used % 2].address)
    log.add(bought(8))
    log.add(subscribed(8, 0), at=UNTIL - 1)
    log.add(subscribed(8, 1))
    log.add(PLAN)
