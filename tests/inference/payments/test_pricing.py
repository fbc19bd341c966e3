"""Prices are integers, rounded up once, and a quote bounds every charge."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import NodeError
from inference.payments.pricing import Price, Usage, charge, least, quote
from registry.errors import ConfigError

TOKENS = st.integers(0, 2**31)


@pytest.mark.parametrize(
    "parts", [(0, 0, 0), (-1, 1, 1), (1, 2**100, 0), (1.5, 0, 0), (True, 0, 0), ("1", 0, 0)]
)
def test_a_price_that_is_free_negative_absurd_or_no_integer_is_refused(
    parts: tuple[int, ...],
) -> None:
    with pytest.raises(ConfigError):
        Price(*parts)


def test_a_negative_usage_is_refused() -> None:
    with pytest.raises(NodeError):
        Usage(-1, 0)


def test_a_fraction_of_an_atomic_unit_is_rounded_up_once() -> None:
    price = Price(per_call=100, input_per_million=1, output_per_million=1)
    assert charge(price, Usage(0, 0)) == 100
    assert charge(price, Usage(1, 1)) == 101
    assert charge(price, Usage(500_000, 500_000)) == 101
    assert charge(price, Usage(500_000, 500_001)) == 102


@given(
    prices=st.tuples(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12)),
    tokens=TOKENS,
    most=TOKENS,
    data=st.data(),
)
def test_a_charge_lies_between_the_least_and_the_quote(
    prices: tuple[int, int, int], tokens: int, most: int, data: st.DataObject
) -> None:
    price = Price(prices[0] + 1, prices[1], prices[2])
    used = data.draw(st.integers(0, most))
    assert least(price, tokens) <= charge(price, Usage(tokens, used)) <= quote(price, tokens, most)
