"""Plans only ever lower a charge, and say by how much and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import NodeError
from inference.payments.plans import (
    CONTRACT,
    NONE,
    TIER,
    Allowance,
    Contract,
    Discount,
    Plans,
    Tier,
    Tiers,
    discount,
    due,
)

ALICE = "0x" + "aa" * 20
BOB = "0x" + "bb" * 20
DAY = 86_400
TIERS = Tiers(30, (Tier(1_000, 50), Tier(5_000, 100)))
NOW = 1_800_000_000


def allowance(**changes: Any) -> Allowance:
    values: dict[str, Any] = {"kind": "coupon", "id": "c", "unit": "calls", "limit": 2, "used": 0}
    return Allowance(**(values | {"until": 0} | changes))


def test_an_allowance_gives_no_more_than_its_limit() -> None:
    with pytest.raises(NodeError, match="allowance c has 0 left"):
        allowance(used=2).taken(0)
    with pytest.raises(NodeError, match="has 5 left"):
        allowance(unit="amount", limit=10, used=5).taken(6)


def test_an_allowance_that_is_used_up_or_over_covers_nothing() -> None:
    over = allowance(until=NOW)
    assert due(100, Discount(), [allowance(used=2), over], at=NOW).charged == 100
    assert due(100, Discount(), [allowance(used=2), over], at=NOW - 1).charged == 0


def test_a_free_call_is_free_whatever_it_costs() -> None:
    result = due(10**30, Discount(), [allowance(used=1)], at=NOW)
    assert (result.charged, result.covered) == (0, 10**30)
    assert result.allowance == allowance(used=1)
    assert result.allowance.taken(result.covered).used == 2


def test_what_is_left_of_an_amount_covers_a_part() -> None:
    result = due(100, Discount(), [allowance(unit="amount", limit=130, used=70)], at=NOW)
    assert (result.charged, result.covered) == (40, 60)


def test_a_call_that_costs_nothing_takes_no_allowance() -> None:
    result = due(1, Discount(CONTRACT, 1000), [allowance()], at=NOW)
    assert (result.charged, result.allowance) == (0, None)


def test_the_first_open_allowance_pays_what_the_discount_left() -> None:
    first, second = allowance(id="a", unit="amount", limit=10), allowance(id="b")
    result = due(99, Discount(CONTRACT, 500), [first, second], at=NOW)
    assert (result.allowance, result.covered, result.charged) == (first, 10, 39)


def test_a_tier_counts_from_its_amount_on() -> None:
    plans = Plans(tiers=TIERS)
    since, until = TIERS.period(NOW)
    found = {spent: discount(plans, ALICE, spent=spent, at=NOW) for spent in (0, 999, 1_000, 5_000)}
    assert found[0] == Discount(NONE, 0, since, until, 0)
    assert found[999].permille == 0
    assert found[1_000] == Discount(TIER, 50, since, until, 1_000, 1_000)
    assert found[5_000] == Discount(TIER, 100, since, until, 5_000, 5_000)


def test_periods_follow_one_another_without_a_gap() -> None:
    since, until = TIERS.period(NOW)
    assert since <= NOW < until == since + 30 * DAY
    assert TIERS.period(until - 1) == (since, until)
    assert TIERS.period(until) == (until, until + 30 * DAY)


def test_a_contract_is_its_payers_alone_and_ends() -> None:
    plans = Plans(contracts=(Contract(ALICE, 300, until=NOW),))
    assert discount(plans, ALICE, spent=0, at=NOW - 1) == Discount(CONTRACT, 300)
    assert discount(plans, ALICE, spent=0, at=NOW) == Discount()
    assert discount(plans, BOB, spent=0, at=NOW - 1) == Discount()


def test_the_larger_of_contract_and_tier_counts_and_not_both() -> None:
    plans = Plans(tiers=TIERS, contracts=(Contract(ALICE, 70),))
    since, until = TIERS.period(NOW)
    assert discount(plans, ALICE, spent=1_000, at=NOW) == Discount(
        CONTRACT, 70, since, until, 1_000
    )
    assert discount(plans, ALICE, spent=5_000, at=NOW).by == TIER


@given(
    listed=st.integers(0, 10**15),
    permille=st.integers(0, 1000),
    pots=st.lists(
        st.builds(
            allowance,
            unit=st.sampled_from(["calls", "amount"]),
            limit=st.integers(0, 10**15),
            used=st.integers(0, 10**15),
            until=st.sampled_from([0, NOW - 1, NOW, NOW + 1]),
        ),
        max_size=4,
    ),
)
def test_a_charge_is_never_negative_and_never_above_the_list_price(
    listed: int, permille: int, pots: list[Allowance]
) -> None:
    by = CONTRACT if permille else NONE
    result = due(listed, Discount(by, permille), pots, at=NOW)
    assert 0 <= result.charged <= listed
    if result.allowance is not None:
        after = result.allowance.taken(result.covered)
        assert result.allowance.used < after.used <= after.limit
