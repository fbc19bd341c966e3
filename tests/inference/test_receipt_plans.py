"""Receipts of format 2: what they say of a plan makes their charge, to the last unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.audit.document import FormatError
from inference.errors import AuditError
from inference.payments.plans import Allowance, Discount, due
from inference.payments.pricing import Price, Usage, charge, quote
from inference.receipt_format import PlannedReceipt, PriceFacts, Receipt, parse_receipt
from inference.receipt_plan import (
    NO_ALLOWANCE,
    NO_DISCOUNT,
    AllowanceFacts,
    DiscountFacts,
    PlanFacts,
    TimeFacts,
)
from inference.receipts import SignedReceipt, issue, price_of, verify_receipt
from tests.inference.receipt_samples import (
    COST,
    DISCOUNTED,
    DOMAIN,
    NODE,
    PLAN,
    QUOTE,
    SALTS,
    call,
    planned,
)


def signed(plan: PlanFacts, charged: int = DISCOUNTED, **payment: Any) -> SignedReceipt:
    facts = planned(plan, **({"charged": charged, "cumulative": charged} | payment))
    return issue(NODE, DOMAIN, facts, seq=3, prev=b"\x07" * 32, salts=SALTS)


def discount(**changes: Any) -> PlanFacts:
    return replace(PLAN, discount=replace(PLAN.discount, **changes))


def coupon(**changes: Any) -> PlanFacts:
    facts = AllowanceFacts("coupon", "0xab", "amount", 100, 40, 60, 0)
    return replace(PLAN, discount=NO_DISCOUNT, allowance=replace(facts, **changes))


TIMED = replace(PLAN, discount=NO_DISCOUNT, time=TimeFacts(1_000, 2_000, 1_234))
# 1.234 seconds at 1,000 a second are 1,234.
TIMED_COST, TIMED_QUOTE = COST + 1_234, QUOTE + 2_000


@pytest.mark.parametrize(
    ("plan", "charged", "reason"),
    [
        (PLAN, DISCOUNTED + 1, f"charged {DISCOUNTED + 1}, price and tokens make it {DISCOUNTED}"),
        (PLAN, DISCOUNTED - 1, f"make it {DISCOUNTED}"),
        (replace(PLAN, listed=COST + 1), DISCOUNTED, f"list price {COST + 1}, the price makes it"),
        (discount(permille=1001), 0, "a discount of 1001 thousandths"),
        (discount(by="none"), DISCOUNTED, "100 thousandths off by none"),
        (discount(permille=0), COST, "0 thousandths off by contract"),
        (discount(by="tier", step=11, spent=10), DISCOUNTED, "from 11 on was given at 10"),
        (coupon(covered=61), COST - 61, "covered 61, it makes 60"),
        (coupon(covered=0), COST, "covered 0, it makes 60"),
        (coupon(used=100, covered=0), COST, "0xab was used up: 100 of 100"),
        (coupon(unit="none"), COST - 60, "kind coupon in none"),
        (coupon(kind="none"), COST - 60, "kind none in amount"),
        (coupon(kind="purchase", used=0), COST - 60, "covered 60, it makes 0"),
        (coupon(unit="calls"), COST - 60, f"covered 60, it makes {COST}"),
    ],
)
def test_a_plan_that_does_not_make_the_charge_is_refused(
    plan: PlanFacts, charged: int, reason: str
) -> None:
    with pytest.raises(AuditError, match=reason) as caught:
        verify_receipt(signed(plan, charged), node=NODE.address, domain=DOMAIN)
    assert caught.value.check == 5


@pytest.mark.parametrize(
    ("payment", "reason"),
    [
        ({"charged": TIMED_COST + 1}, f"make it {TIMED_COST}"),
        ({"quote": TIMED_QUOTE - 1}, f"quoted {TIMED_QUOTE - 1}, the price makes it"),
        ({"quote": QUOTE}, "more than the 188 quoted"),
    ],
)
def test_a_charge_for_other_seconds_than_were_measured_is_refused(
    payment: dict[str, int], reason: str
) -> None:
    said = {"quote": TIMED_QUOTE, "charged": TIMED_COST} | payment
    plan = replace(TIMED, listed=TIMED_COST)
    with pytest.raises(AuditError, match=reason):
        verify_receipt(signed(plan, **said), node=NODE.address, domain=DOMAIN)


def test_a_call_that_failed_has_no_plan() -> None:
    facts = replace(planned(PLAN, charged=0, cumulative=0), status="failed")
    failed = issue(NODE, DOMAIN, facts, seq=3, prev=b"\x07" * 32)
    with pytest.raises(AuditError, match="a failed call was charged"):
        verify_receipt(failed, node=NODE.address, domain=DOMAIN)


def test_each_format_refuses_the_fields_of_the_other() -> None:
    one = issue(NODE, DOMAIN, call(), seq=3, prev=b"\x07" * 32).public()
    two = signed(PLAN).public()
    for bundle, format in ((one, "weightproof/receipt@2"), (two, "weightproof/receipt@1")):
        with pytest.raises(FormatError, match="plan"):
            SignedReceipt.from_json(bundle | {"receipt": bundle["receipt"] | {"format": format}})


@pytest.mark.parametrize(
    ("plan", "payment"),
    [
        (PLAN, {"charged": DISCOUNTED}),
        (coupon(), {"charged": COST - 60}),
        (coupon(unit="calls", covered=COST), {"charged": 0}),
        (coupon(kind="purchase", used=0, covered=0), {"charged": COST}),
        (replace(TIMED, listed=TIMED_COST), {"charged": TIMED_COST, "quote": TIMED_QUOTE}),
        (
            replace(TIMED, listed=TIMED_QUOTE),
            {"charged": TIMED_QUOTE, "quote": TIMED_QUOTE, "scheme": "exact"},
        ),
    ],
    ids=["contract", "amount", "call", "purchase", "seconds", "exact"],
)
def test_an_honest_receipt_of_format_2_holds_and_comes_back(
    plan: PlanFacts, payment: dict[str, Any]
) -> None:
    bundle = signed(plan, **payment)
    receipt = verify_receipt(bundle, node=NODE.address, domain=DOMAIN)
    assert receipt.plan == plan
    assert receipt.to_json()["format"] == "weightproof/receipt@2"
    assert type(parse_receipt(receipt.encode())) is PlannedReceipt
    assert parse_receipt(receipt.encode()) == receipt
    assert SignedReceipt.from_json(bundle.bundle()) == bundle


def test_a_receipt_of_format_1_has_no_plan() -> None:
    receipt = issue(NODE, DOMAIN, call(), seq=3, prev=b"\x07" * 32).receipt
    assert type(receipt) is Receipt
    assert receipt.plan is None


@given(
    prices=st.tuples(*[st.integers(0, 10**9)] * 4).filter(any),
    used=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**8)),
    permille=st.integers(0, 1000),
    unit=st.sampled_from(["calls", "amount"]),
    limit=st.integers(0, 10**12),
    spent=st.integers(0, 10**12),
)
def test_what_the_node_charges_is_what_an_auditor_computes(
    prices: tuple[int, int, int, int],
    used: tuple[int, int, int],
    permille: int,
    unit: Any,
    limit: int,
    spent: int,
) -> None:
    per_call, into, out, second = prices
    price = Price(per_call, into, out, second, 60 if second else 0)
    listed = charge(price, Usage(*used))
    by = "contract" if permille else "none"
    pot = Allowance("coupon", "c", unit, limit, spent, 0)
    made = due(listed, Discount(by, permille), [pot], at=0)
    taken = made.allowance
    facts = PlanFacts(
        offer=bytes(32),
        listed=listed,
        time=TimeFacts(second, price.most_ms, used[2]),
        discount=DiscountFacts(by, permille, 0, 0, 0, 0),
        allowance=AllowanceFacts("coupon", "c", unit, limit, spent, made.covered, 0)
        if taken
        else NO_ALLOWANCE,
    )
    rate = PriceFacts(per_call, into, out)
    assert price_of(rate, used[0], used[1], facts.time.used) == listed
    assert price_of(rate, used[0], used[1], facts.time.quoted) == quote(price, used[0], used[1])
    assert facts.fault() == ""
    assert facts.due == made.charged
    assert facts.allowance.taken == (taken.taken(made.covered).used - taken.used if taken else 0)
