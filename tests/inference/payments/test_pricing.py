"""Prices are integers, rounded up once, and a quote bounds every charge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import NodeError
from inference.payments.pricing import Price, Usage, charge, discounted, least, quote
from registry.errors import ConfigError

TOKENS = st.integers(0, 2**31)
MS = st.integers(0, 10**8)
AMOUNTS = st.integers(0, 10**12)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    seconds = draw(st.integers(0, 86_400))
    per_second = draw(st.integers(1, 10**9)) if seconds else 0
    return Price(draw(AMOUNTS) + 1, draw(AMOUNTS), draw(AMOUNTS), per_second, seconds)


@pytest.mark.parametrize(
    "parts",
    [
        (0, 0, 0),
        (-1, 1, 1),
        (1, 2**100, 0),
        (1.5, 0, 0),
        (True, 0, 0),
        ("1", 0, 0),
        (1, 0, 0, -1, 60),
        (1, 0, 0, 0.5, 60),
        (1, 0, 0, 20, 0),
        (1, 0, 0, 0, 60),
        (1, 0, 0, 20, 86_401),
    ],
)
def test_a_price_that_is_free_negative_unbounded_or_no_integer_is_refused(
    parts: tuple[int, ...],
) -> None:
    with pytest.raises(ConfigError):
        Price(*parts)


@pytest.mark.parametrize("parts", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_a_negative_usage_is_refused(parts: tuple[int, int, int]) -> None:
    with pytest.raises(NodeError):
        Usage(*parts)


@pytest.mark.parametrize("permille", [-1, 1001])
def test_a_discount_of_more_than_all_or_less_than_nothing_is_refused(permille: int) -> None:
    with pytest.raises(NodeError):
        discounted(100, permille)


def test_a_fraction_of_an_atomic_unit_is_rounded_up_once() -> None:
    price = Price(per_call=100, input_per_million=1, output_per_million=1)
    assert charge(price, Usage(0, 0)) == 100
    assert charge(price, Usage(1, 1)) == 101
    assert charge(price, Usage(500_000, 500_000)) == 101
    assert charge(price, Usage(500_000, 500_001)) == 102


def test_tokens_and_milliseconds_are_added_before_they_are_rounded() -> None:
    price = Price(0, 400_000, 0, per_second=100, most_seconds=2)
    assert charge(price, Usage(0, 0, 1)) == 1
    assert charge(price, Usage(1, 0, 6)) == 1
    assert charge(price, Usage(1, 0, 7)) == 2


def test_seconds_beyond_the_most_are_not_charged() -> None:
    price = Price(0, 0, 0, per_second=100, most_seconds=2)
    assert charge(price, Usage(0, 0, 1_999)) == 200
    assert charge(price, Usage(0, 0, 2_000)) == charge(price, Usage(0, 0, 10**9)) == 200
    assert quote(price, 0, 0) == 200
    assert least(price, 0) == 0


@given(price=prices(), tokens=TOKENS, most=TOKENS, ms=MS, data=st.data())
def test_a_charge_lies_between_the_least_and_the_quote(
    price: Price, tokens: int, most: int, ms: int, data: st.DataObject
) -> None:
    used = data.draw(st.integers(0, most))
    charged = charge(price, Usage(tokens, used, ms))
    assert least(price, tokens) <= charged <= quote(price, tokens, most)


@given(price=prices(), used=st.tuples(TOKENS, TOKENS, MS), more=st.tuples(TOKENS, TOKENS, MS))
def test_whoever_uses_more_pays_no_less(
    price: Price, used: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    together = Usage(*(a + b for a, b in zip(used, more, strict=True)))
    assert charge(price, Usage(*used)) <= charge(price, together)


@given(price=prices(), tokens=TOKENS, made=TOKENS, ms=MS)
def test_no_more_than_one_unit_is_gained_by_rounding(
    price: Price, tokens: int, made: int, ms: int
) -> None:
    charged_ms = min(ms, price.most_ms)
    exactly = tokens * price.input_per_million + made * price.output_per_million
    exactly += charged_ms * price.per_second * 1000
    rounded = charge(price, Usage(tokens, made, ms)) - price.per_call
    assert 0 <= rounded * 10**6 - exactly < 10**6


@given(listed=st.integers(0, 2**100), low=st.integers(0, 1000), high=st.integers(0, 1000))
def test_a_discount_is_never_above_the_price_and_its_fraction_is_the_payers(
    listed: int, low: int, high: int
) -> None:
    low, high = sorted((low, high))
    assert 0 <= discounted(listed, high) <= discounted(listed, low) <= listed
    assert discounted(listed, 0) == listed
    assert discounted(listed, 1000) == 0
    assert discounted(listed, low) * 1000 <= listed * (1000 - low)


def test_a_price_is_shown_with_seconds_only_where_they_cost_something() -> None:
    tokens = {"per_call": 1, "input_per_million": 2, "output_per_million": 3}
    assert Price(**tokens).to_json() == tokens
    timed = tokens | {"per_second": 4, "most_seconds": 5}
    assert Price(**timed).to_json() == timed
