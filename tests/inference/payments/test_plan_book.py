"""What is left of an allowance is counted with the call, in one transaction, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from inference.database import Database
from inference.payments.plan_book import Claimed, PlanBook, trial_id
from inference.payments.plans import (
    DAY_S,
    Allowance,
    Plans,
    Subscription,
    Tier,
    Tiers,
    Trial,
)

T = TypeVar("T")
ALICE = "0x" + "aa" * 20
BOB = "0x" + "bb" * 20
NOW = 1_800_000_000
TRIAL = Trial("launch", "calls", 2, wallets=1)
MONTH = Subscription("month", 1_000, 30, "calls", 2, ("small",))
COUPON = Allowance("coupon", "0x" + "cc" * 32, "amount", 100, 0, NOW + 60)


class Rolled(Exception):
    pass


def take(
    database: Database, plans: Plans, listed: int = 100, *, payer: str = ALICE, **more: Any
) -> tuple[int, str]:
    """Book a call; return what it was charged and the kind of allowance that it used."""
    at, claimed = more.pop("at", NOW), Claimed(**more)
    result = database.write_now(
        lambda tx: PlanBook(plans).take(tx, payer, "small", listed, claimed, at=at)
    )
    return result.charged, result.allowance.kind if result.allowance else ""


def undone(database: Database, function: Callable[[Connection], T]) -> None:
    def fail(tx: Connection) -> None:
        function(tx)
        raise Rolled

    with pytest.raises(Rolled):
        database.write_now(fail)


def test_what_a_transaction_took_is_there_again_when_it_is_undone(database: Database) -> None:
    plans = Plans(trial=TRIAL, tiers=Tiers(30, (Tier(150, 500),)))
    book, claimed = PlanBook(plans), Claimed(COUPON, may_try=True)
    for _ in range(3):
        undone(database, lambda tx: book.take(tx, ALICE, "small", 100, claimed, at=NOW))
        undone(database, lambda tx: book.list_price(tx, ALICE, 1_000, at=NOW))
        undone(database, lambda tx: book.sell(tx, ALICE, MONTH, id="sub_1", at=NOW))
    assert database.read(lambda tx: book.known(tx, COUPON.id)) is None
    assert take(database, plans, coupon=COUPON) == (0, "coupon")
    assert database.read(lambda tx: book.known(tx, COUPON.id)) == replace(COUPON, used=100)
    assert take(database, plans, coupon=COUPON) == (100, "")


def test_of_wallets_that_may_try_only_so_many_do(database: Database) -> None:
    plans = Plans(trial=TRIAL)
    assert take(database, plans, may_try=True) == (0, "trial")
    assert take(database, plans, payer=BOB, may_try=True) == (100, "")
    assert take(database, plans, may_try=True) == (0, "trial")
    assert take(database, plans, may_try=True) == (100, "")


def test_a_wallet_keeps_the_trial_it_began_when_the_operator_gives_less(database: Database) -> None:
    assert take(database, Plans(trial=TRIAL), may_try=True) == (0, "trial")
    less = replace(TRIAL, limit=1)
    assert take(database, Plans(trial=less), may_try=True) == (0, "trial")
    known = database.read(lambda tx: PlanBook(Plans()).known(tx, trial_id(less, ALICE)))
    assert known == Allowance("trial", trial_id(TRIAL, ALICE), "calls", 2, 2, 0)


def test_a_subscription_is_its_buyers_for_its_models_and_its_days(database: Database) -> None:
    plans = Plans(subscriptions=(MONTH,))
    book = PlanBook(plans)
    bought = database.write_now(lambda tx: book.sell(tx, ALICE, MONTH, id="sub_7", at=NOW))
    assert bought == Allowance("subscription", "sub_7", "calls", 2, 0, NOW + 30 * DAY_S)
    assert take(database, plans, payer=BOB) == (100, "")
    other = database.write_now(lambda tx: book.take(tx, ALICE, "large", 100, Claimed(), at=NOW))
    assert other.charged == 100
    assert take(database, plans, at=NOW + 30 * DAY_S) == (100, "")
    assert take(database, plans, at=NOW + 30 * DAY_S - 1) == (0, "subscription")
    assert take(database, plans) == (0, "subscription")
    assert take(database, plans) == (100, "")


def test_of_two_subscriptions_the_older_is_used_first(database: Database) -> None:
    plans = Plans(subscriptions=(replace(MONTH, limit=1),))
    book, offer = PlanBook(plans), plans.subscriptions[0]
    database.write_now(lambda tx: book.sell(tx, ALICE, offer, id="sub_8", at=NOW))
    database.write_now(lambda tx: book.sell(tx, ALICE, offer, id="sub_9", at=NOW + 1))
    used = [
        database.write_now(
            lambda tx: book.take(tx, ALICE, "small", 100, Claimed(), at=NOW + 2)
        ).allowance
        for _ in range(3)
    ]
    assert [pot and pot.id for pot in used] == ["sub_8", "sub_9", None]


def test_a_coupon_comes_before_a_subscription_and_a_trial_last(database: Database) -> None:
    plans = Plans(trial=TRIAL, subscriptions=(replace(MONTH, limit=1),))
    book, offer = PlanBook(plans), plans.subscriptions[0]
    database.write_now(lambda tx: book.sell(tx, ALICE, offer, id="sub_8", at=NOW))
    kinds = [take(database, plans, coupon=COUPON, may_try=True) for _ in range(3)]
    assert kinds == [(0, "coupon"), (0, "subscription"), (0, "trial")]


def test_spending_is_counted_by_payer_and_period(database: Database) -> None:
    tiers = Tiers(1, (Tier(150, 500),))
    plans = Plans(tiers=tiers)
    _, until = tiers.period(NOW)
    charges = [take(database, plans, at=NOW)[0] for _ in range(4)]
    assert charges == [100, 100, 50, 50]
    assert take(database, plans, payer=BOB) == (100, "")
    assert take(database, plans, at=until) == (100, "")
    # Tiers of other periods begin anew: what was spent under others says nothing about them.
    assert take(database, Plans(tiers=replace(tiers, days=2))) == (100, "")


def test_without_plans_nothing_is_written(database: Database) -> None:
    assert take(database, Plans(), may_try=True) == (100, "")
    count = database.read(
        lambda tx: tx.exec_driver_sql(
            "SELECT (SELECT count(*) FROM allowances) + (SELECT count(*) FROM spending)"
        ).scalar_one()
    )
    assert count == 0
