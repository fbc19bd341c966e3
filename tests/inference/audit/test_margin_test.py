"""The margin test: what an honest answer may lose, and which document says so."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.audit.document import FormatError
from inference.audit.margin_test import (
    HALF,
    SINGLE,
    HonestTokens,
    ModelThresholds,
    Thresholds,
)
from registry.errors import CanonicalError

MINE = b"\x07" * 32
FAIR = HonestTokens("0.1", "0.002", "0.05", 9, 900)
EXACT = HonestTokens("0.01", "0.0001", "0.01", 9, 900)
OTHERS = ModelThresholds("others", bytes(32), EXACT, HonestTokens("0.3", "0.002", "0.15", 9, 900))
RULE = Thresholds("1", 100_000, (ModelThresholds("mine", MINE, EXACT, FAIR),), OTHERS)


def test_thresholds_of_another_form_are_refused(tmp_path: Path) -> None:
    good = RULE.to_json()
    for wrong in (
        {**good, "clip": 1},
        {**good, "oneIn": "5"},
        {**good, "others": {}},
        {**good, "format": "weightproof/thresholds@2"},
        {**good, "more": "1"},
    ):
        with pytest.raises(FormatError):
            Thresholds.from_json(wrong)
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps(good, indent=1))
    with pytest.raises(CanonicalError, match="not canonical"):
        Thresholds.read(file)
    file.write_bytes(RULE.encode() + b"\n")
    assert Thresholds.read(file) == RULE


def test_what_tokens_lose_beyond_the_floor_adds_up_and_no_token_counts_for_more_than_the_clip() -> (
    None
):
    assert FAIR.score((0.1, 0.05, 0, 0), 1) == 0
    assert FAIR.score((math.inf, 0.3, 0), 1) == pytest.approx(0.9 + 0.2)
    assert FAIR.score((), 1) == 0
    assert RULE.judge(MINE, HALF, ()).is_honest


def test_an_answer_that_loses_more_than_honest_ones_is_not_one() -> None:
    bound = FAIR.bound(100, RULE.one_in)
    just, more = (0.1 + bound / 50 - 1e-9,) * 50, (0.1 + bound / 50 + 1e-9,) * 50
    assert RULE.judge(MINE, HALF, (*just, *[0.0] * 50)).is_honest
    verdict = RULE.judge(MINE, HALF, (*more, *[0.0] * 50))
    assert not verdict.is_honest
    assert (verdict.bound, verdict.tokens) == (bound, 100)


@pytest.mark.parametrize("tokens", [10, 100, 1000])
def test_honest_tokens_exceed_the_bound_as_often_as_it_says(tokens: int) -> None:
    """Against sums that are drawn: the bound is a quantile of theirs."""
    random = np.random.default_rng(tokens)
    events = random.poisson(float(FAIR.rate) * tokens, 400_000)
    sums = random.gamma(np.maximum(events, 1e-12), float(FAIR.size))
    for one_in in (100, 1000):
        above = int((sums > FAIR.bound(tokens, one_in)).sum())
        expected = len(sums) / one_in
        assert abs(above - expected) < 6 * math.sqrt(expected)


def test_the_bound_rises_with_the_tokens_and_holds_for_any_number_of_them() -> None:
    bounds = [FAIR.bound(tokens, 100_000) for tokens in (0, 1, 10, 100, 10_000, 1_000_000)]
    assert bounds == sorted(bounds)
    assert bounds[0] < 1e-12
    # Of very many tokens it is what they lose on average, and little more.
    assert bounds[-1] == pytest.approx(1_000_000 * 0.002 * 0.05, rel=0.2)


def test_a_node_is_held_to_the_arithmetic_that_it_names() -> None:
    lost = (0.09,) * 10
    assert RULE.judge(MINE, HALF, lost).is_honest
    assert not RULE.judge(MINE, SINGLE, lost).is_honest


def test_a_model_that_nobody_measured_has_more_room() -> None:
    lost = (0.3,) * 10
    assert not RULE.judge(MINE, HALF, lost).is_honest
    found = RULE.judge(b"\x08" * 32, HALF, lost)
    assert found.is_honest
    assert not found.measured


def test_the_thresholds_of_this_version_can_be_read() -> None:
    rule = Thresholds.read()
    for model in (*rule.models, rule.others):
        assert model.single.bound(300, rule.one_in) < model.half.bound(300, rule.one_in)
        assert rule.judge(model.weights, HALF, (0.0,) * 10).is_honest
    with pytest.raises(FormatError):
        replace(rule, clip="much")
