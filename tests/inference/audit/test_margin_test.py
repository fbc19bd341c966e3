"""The margin test: what an honest answer may lose, and which document says so."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from inference.audit.document import FormatError
from inference.audit.margin_test import (
    HALF,
    SINGLE,
    HonestTokens,
    ModelThresholds,
    Thresholds,
    score,
)
from registry.errors import CanonicalError

MINE = b"\x07" * 32
OTHERS = ModelThresholds(
    "others", bytes(32), HonestTokens("0", "0.1", 1, 1), HonestTokens("0.1", "0.3", 1, 1)
)
RULE = Thresholds(
    "1",
    "5",
    (
        ModelThresholds(
            "mine", MINE, HonestTokens("0", "0.01", 9, 900), HonestTokens("0.02", "0.1", 9, 900)
        ),
    ),
    OTHERS,
)


def test_thresholds_of_another_form_are_refused(tmp_path: Path) -> None:
    good = RULE.to_json()
    for wrong in (
        {**good, "clip": 1},
        {**good, "sigmas": "-5"},
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


def test_no_single_token_decides() -> None:
    assert score((math.inf, 0, 0, 0), 1) == 0.25
    assert score((7.0, 0.5), 1) == 0.75
    assert score((), 1) == 0
    assert RULE.judge(MINE, HALF, ()).is_honest


def test_an_answer_that_loses_more_than_honest_ones_is_not_one() -> None:
    # Of a hundred tokens 0.02 + 5 · 0.1 / 10 is honest.
    verdict = RULE.judge(MINE, HALF, (0.0701,) * 100)
    assert not verdict.is_honest
    assert (round(verdict.bound, 9), verdict.tokens) == (0.07, 100)
    assert RULE.judge(MINE, HALF, (0.0699,) * 100).is_honest


def test_a_longer_answer_is_held_to_more() -> None:
    lost = (0.08,)
    assert RULE.judge(MINE, HALF, lost * 25).is_honest
    assert not RULE.judge(MINE, HALF, lost * 100).is_honest


def test_a_node_is_held_to_the_arithmetic_that_it_names() -> None:
    lost = (0.03,) * 100
    assert RULE.judge(MINE, HALF, lost).is_honest
    assert not RULE.judge(MINE, SINGLE, lost).is_honest


def test_a_model_that_nobody_measured_has_more_room() -> None:
    lost = (0.2,) * 100
    assert not RULE.judge(MINE, HALF, lost).is_honest
    found = RULE.judge(b"\x08" * 32, HALF, lost)
    assert found.is_honest
    assert not found.measured


def test_the_thresholds_of_this_version_can_be_read() -> None:
    rule = Thresholds.read()
    for model in (*rule.models, rule.others):
        assert float(model.single.mean) <= float(model.half.mean)
        assert float(model.single.spread) <= float(model.half.spread)
        assert rule.judge(model.weights, HALF, (0.0,) * 10).is_honest
    with pytest.raises(FormatError):
        replace(rule, clip="much")
