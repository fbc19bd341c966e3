"""By how much a token loses: nothing when it is drawn, little where rounding could draw it."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.choosing import choose, gumbel
from inference.engine.losing import behind
from inference.engine.sampling import Sampling
from inference.errors import GenerationError

WIDTH = 40
GREEDY = Sampling(8)
DRAWN = Sampling(8, temperature=Decimal("0.7"), seed=3)
CUT = [
    replace(DRAWN, top_p=Decimal("0.8")),
    replace(DRAWN, top_k=5),
    replace(DRAWN, top_p=Decimal("0.9"), top_k=12),
]


def logits(seed: int = 0, spread: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, spread, WIDTH).astype(np.float32)


def test_logits_that_are_not_numbers_are_refused() -> None:
    bad = logits()
    bad[3] = np.nan
    with pytest.raises(GenerationError):
        behind(bad, DRAWN, 1, 0)


def test_a_token_that_a_grammar_forbids_could_never_come() -> None:
    allowed = np.ones(WIDTH, dtype=np.bool_)
    allowed[7] = False
    for sampling in (GREEDY, DRAWN, *CUT):
        assert behind(logits(), sampling, 1, 7, None, allowed) == math.inf


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, *CUT])
@given(seed=st.integers(0, 10_000), position=st.integers(1, 10_000))
def test_only_the_token_that_is_chosen_loses_nothing(
    sampling: Sampling, seed: int, position: int
) -> None:
    numbers = logits(seed)
    winner = choose(numbers, sampling, position).token
    lost = [behind(numbers, sampling, position, token) for token in range(WIDTH)]
    assert lost[winner] == 0
    assert all(each >= 0 for each in lost)
    assert sum(each == 0 for each in lost) == 1


def test_of_greedy_choices_it_is_the_difference_of_logits() -> None:
    numbers = logits()
    best = numbers.max()
    for token in range(WIDTH):
        assert behind(numbers, GREEDY, 1, token) == pytest.approx(best - numbers[token])


def test_of_drawn_choices_it_is_the_difference_of_logits_with_noise() -> None:
    numbers = logits().astype(np.float64)
    noise = 0.7 * gumbel(DRAWN.seed, 9, WIDTH)
    scores = numbers + noise
    for token in range(WIDTH):
        assert behind(numbers, DRAWN, 9, token) == pytest.approx(scores.max() - scores[token])


def test_penalties_count_against_a_token() -> None:
    numbers = logits()
    token = choose(numbers, GREEDY, 1).token
    harsh = replace(GREEDY, presence_penalty=Decimal(2), frequency_penalty=Decimal(2))
    assert behind(numbers, harsh, 1, token, {token: 3}) > 0


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, *CUT])
@given(seed=st.integers(0, 10_000), size=st.floats(1e-6, 0.05))
def test_logits_moved_by_rounding_cost_no_more_than_they_were_moved(
    sampling: Sampling, seed: int, size: float
) -> None:
    """Also at the edges of top-k and top-p, where a token is in or out."""
    numbers = logits(seed).astype(np.float64)
    moved = numbers + np.random.default_rng(seed + 1).uniform(-size, size, WIDTH)
    for position in range(20):
        token = choose(moved, sampling, position).token
        # Two logits may be moved apart by twice as much.
        assert behind(numbers, sampling, position, token) <= 2 * size + 1e-9


def test_other_logits_cost_much() -> None:
    for sampling in (GREEDY, DRAWN, *CUT):
        lost = []
        for seed in range(50):
            token = choose(logits(seed + 1000), sampling, seed).token
            lost.append(behind(logits(seed), sampling, seed, token))
        assert np.mean(lost) > 1
