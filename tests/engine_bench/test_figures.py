"""The bench's figures and goals, from calls whose times are known."""

from __future__ import annotations

import pytest
from engine_bench.calls import Call, Round, figures
from engine_bench.goals import GOALS, RATIOS, goals, ratios
from engine_bench.prompts import Prompts


def made(*, tokens: int, seconds: float, first: float = 0.1) -> Round:
    return Round((Call(5.0, 5.0 + seconds, (5.0 + first, 5.0 + 2 * first), 40, tokens),))


def test_a_rate_is_over_the_whole_round_and_not_the_mean_of_calls() -> None:
    one = Call(10.0, 12.0, (11.0, 12.0), 40, 30)
    other = Call(11.0, 15.0, (12.0, 15.0), 40, 20)
    assert Round((one, other)).rate == 10.0


def test_figures_are_of_all_calls_and_rates_of_rounds() -> None:
    found = figures([made(tokens=10, seconds=1), made(tokens=40, seconds=2, first=0.3)])
    assert found["tokens_per_s"] == {"median": 15.0, "min": 10.0, "max": 20.0}
    assert found["ttft_ms"] == {"p50": 300.0, "p95": 300.0}
    assert found["itl_ms"] == {"p50": 300.0, "p95": 300.0}
    assert (found["calls"], found["receipts"]) == (2, 0)


def test_ratios_are_taken_round_by_round() -> None:
    # The machine was half as fast in the second round: the ratio is the same all the same.
    ours = [made(tokens=40, seconds=1), made(tokens=40, seconds=2)]
    theirs = [made(tokens=20, seconds=1), made(tokens=20, seconds=2)]
    found = ratios({"ours": ours, "vllm": theirs})["ours_over_vllm"]
    assert found == {"median": 2.0, "min": 2.0, "max": 2.0}


@pytest.mark.parametrize(
    ("factor", "met"), [(1.4, False), (1.6, True)], ids=["missed below", "met above"]
)
def test_a_goal_is_judged_at_its_concurrency(factor: float, met: bool) -> None:
    rounds = {
        "ours": [made(tokens=round(100 * factor), seconds=1)],
        "vllm": [made(tokens=100, seconds=1)],
    }
    judged = {goal["ratio"]: goal["met"] for goal in goals({16: rounds, 2: rounds})}
    assert judged == {"ours_over_vllm": met, "first_token_ours_over_vllm": False}


def test_a_first_token_goal_is_met_from_below() -> None:
    rounds = {
        "ours": [made(tokens=100, seconds=1, first=0.04)],
        "vllm": [made(tokens=100, seconds=1, first=0.1)],
    }
    judged = {goal["ratio"]: goal["met"] for goal in goals({16: rounds})}
    assert judged["first_token_ours_over_vllm"] is True


def test_each_goal_is_about_a_known_ratio() -> None:
    assert {goal.ratio for goal in GOALS} <= {ratio.name for ratio in RATIOS}


def test_no_prompt_comes_twice() -> None:
    prompts = Prompts()
    texts = [text for _ in range(60) for worker in prompts.take(32, 2) for text in worker]
    assert len(set(texts)) == len(texts) == 60 * 64
