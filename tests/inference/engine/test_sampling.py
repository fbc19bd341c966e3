"""Tokens are a pure function of logits, settings, seed and position."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from inference.engine.sampling import MAX_SEED, Sampling, gumbel
from inference.engine.sampling import choose as make_choice
from inference.errors import GenerationError, RequestError

FINITE = st.floats(-50, 50, width=32)


def choose(logits: np.ndarray, how: Sampling, position: int) -> int:
    return make_choice(logits, how, position).token


def sampling(**values: object) -> Sampling:
    return Sampling(**{"max_tokens": 1, **values})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("temperature", Decimal("-0.1")),
        ("temperature", Decimal("2.1")),
        ("temperature", Decimal("NaN")),
        ("temperature", Decimal("Infinity")),
        ("top_p", Decimal(0)),
        ("top_p", Decimal("1.01")),
        ("top_p", Decimal("NaN")),
        ("top_k", -1),
        ("seed", -1),
        ("seed", MAX_SEED + 1),
        ("stop", ("",)),
        ("stop", ("a",) * 5),
        ("stop", ("a" * 257,)),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        sampling(**{name: value})
    assert caught.value.param == name


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("temperature", [Decimal(0), Decimal(1)])
def test_logits_that_are_not_numbers_are_refused(bad: float, temperature: Decimal) -> None:
    logits = np.array([0.0, bad, 2.0], dtype=np.float32)
    with pytest.raises(GenerationError, match="not numbers"):
        choose(logits, sampling(temperature=temperature), 0)


def test_logits_of_which_none_is_finite_are_refused() -> None:
    with pytest.raises(GenerationError, match="not numbers"):
        choose(np.full(3, -np.inf, dtype=np.float32), sampling(), 0)


def test_a_token_with_minus_infinity_is_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf], dtype=np.float32)
    assert {choose(logits, sampling(temperature=Decimal(2)), at) for at in range(200)} == {1}


def test_greedy_ties_go_to_the_lowest_token() -> None:
    assert choose(np.array([1.0, 3.0, 3.0, 3.0], dtype=np.float32), sampling(), 9) == 1


@given(arrays.arrays(np.float32, 50, elements=FINITE), st.integers(0, MAX_SEED))
def test_one_candidate_left_is_the_greedy_choice(logits: np.ndarray, seed: int) -> None:
    greedy = choose(logits, sampling(), 0)
    hot = {"temperature": Decimal(2), "seed": seed}
    assert choose(logits, sampling(**hot, top_k=1), 3) == greedy
    assert choose(logits, sampling(**hot, top_p=Decimal("1e-9")), 3) == greedy


@given(
    arrays.arrays(np.float32, 50, elements=FINITE),
    st.integers(0, MAX_SEED),
    st.integers(0, 2**20),
    st.integers(0, 60),
    st.decimals("0.01", "1", places=2),
)
def test_the_same_inputs_draw_the_same_allowed_token(
    logits: np.ndarray, seed: int, position: int, top_k: int, top_p: Decimal
) -> None:
    how = sampling(temperature=Decimal("0.7"), seed=seed, top_k=top_k, top_p=top_p)
    token = choose(logits, how, position)
    assert token == choose(logits.copy(), how, position)
    if 0 < top_k < 50:
        assert logits[token] >= np.sort(logits)[-top_k]


@pytest.mark.parametrize("temperature", [Decimal("1e-300"), Decimal("0.000001")])
def test_a_temperature_near_zero_is_greedy(temperature: Decimal) -> None:
    logits = np.array([1.0, 2.0, 1.5], dtype=np.float32)
    drawn = {choose(logits, sampling(temperature=temperature, seed=s), 0) for s in range(50)}
    assert drawn == {1}


def test_draws_follow_the_softmax() -> None:
    logits = np.array([0.0, 1.0, 2.0, -1.0], dtype=np.float32)
    temperature = 1.25
    weights = np.exp(logits / temperature)
    expected = weights / weights.sum()
    how = sampling(temperature=Decimal("1.25"), seed=11)
    count = 20_000
    drawn = np.bincount([choose(logits, how, at) for at in range(count)], minlength=4) / count
    # Five standard deviations of a share that is measured so often.
    assert np.all(np.abs(drawn - expected) < 5 * np.sqrt(expected * (1 - expected) / count))


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))

    def drawn(top_p: str) -> set[int]:
        how = sampling(temperature=Decimal(1), top_p=Decimal(top_p), seed=5)
        return {choose(logits, how, at) for at in range(500)}

    assert drawn("0.49") == {0}
    assert drawn("0.79") == {0, 1}
    assert drawn("0.94") == {0, 1, 2}
    assert drawn("1") == {0, 1, 2, 3}


def test_noise_differs_by_seed_and_by_position() -> None:
    rows = [gumbel(0, 0, 8), gumbel(1, 0, 8), gumbel(0, 1, 8), gumbel(2**52, 0, 8)]
    assert len({row.tobytes() for row in rows}) == 4


def test_the_noise_is_pinned() -> None:
    """Receipts of today must be replayable for ever."""
    pinned = ["-0.0405161530559", "0.234735873358", "2.59013362374", "0.651098659382"]
    assert [f"{value:.12g}" for value in gumbel(7, 42, 4)] == pinned


def test_settings_are_stated_as_texts_and_integers() -> None:
    how = sampling(temperature=Decimal("0.70"), top_p=Decimal("1.0"), top_k=5, seed=3)
    assert how.to_json() == {
        "seed": 3,
        "temperature": "0.7",
        "topP": "1",
        "topK": 5,
        "maxTokens": 1,
    }
