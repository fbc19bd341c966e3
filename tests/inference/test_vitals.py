"""Metrics as `weightproof top` reads them."""

from __future__ import annotations

import math

import pytest

from inference.errors import UnavailableError
from inference.metrics import Metrics
from inference.vitals import Span, Vitals, quantile
from tests.inference.call_samples import MODEL, ended

FIRST = "weightproof_time_to_first_token_seconds_bucket"


@pytest.mark.parametrize(
    "text", ["<html>not metrics</html>", 'a{model="x} 1', "a b c", 'a{le="x"} 1', "{} {} {}"]
)
def test_what_is_not_metrics_is_refused(text: str) -> None:
    with pytest.raises(UnavailableError, match="cannot be read"):
        Vitals.parse(text + "\n", 0.0)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e300"])
def test_what_is_no_count_is_left_out(value: str) -> None:
    read = Vitals.parse(f'weightproof_engine_running{{model="x"}} {value}\n', 0.0)
    assert Span(read, read).row("x").running == 0


def test_rates_are_what_grew_between_two_readings() -> None:
    metrics = Metrics()
    metrics.ended(ended())
    before = Vitals.parse(metrics.render("")[0].decode(), 10.0)
    metrics.ended(ended())
    metrics.of(MODEL).output_tokens.inc(30)
    row = Span(before, Vitals.parse(metrics.render("")[0].decode(), 40.0)).row(MODEL)
    assert row.output_tokens_per_s == 1.0
    assert row.input_tokens_per_s == 4 / 30
    assert row.charged_per_min == 256
    assert (row.calls, row.window_s) == ({"ok": 2}, 30.0)
    assert (row.mean_batch, row.cache, row.prefix_hits) == (None, None, None)


def test_a_counter_that_began_anew_gives_no_negative_rate() -> None:
    text = 'weightproof_output_tokens_total{{model="x"}} {}\n'
    before, now = (Vitals.parse(text.format(count), at) for count, at in ((90, 0.0), (5, 1.0)))
    assert Span(before, now).row("x").output_tokens_per_s == 0.0


def test_batch_and_cache_follow_from_the_engines_counts() -> None:
    text = (
        'weightproof_engine_steps_total{{model="x"}} {0}\n'
        'weightproof_engine_batch_tokens_total{{model="x"}} {1}\n'
        'weightproof_engine_cache_bytes{{model="x"}} 25\n'
        'weightproof_engine_cache_capacity_bytes{{model="x"}} 100\n'
        'weightproof_engine_input_tokens_total{{model="x"}} 8\n'
        'weightproof_engine_cached_tokens_total{{model="x"}} 2\n'
    )
    before = Vitals.parse(text.format(10, 10), 0.0)
    now = Vitals.parse(text.format(20, 90), 1.0)
    row = Span(before, now).row("x")
    assert (row.mean_batch, row.cache, row.prefix_hits) == (8.0, 0.25, 0.25)
    # Nothing happened meanwhile: the mean of all so far.
    assert Span(now, now).row("x").mean_batch == 4.5


def test_quantiles_are_of_the_window_and_without_one_of_all_so_far() -> None:
    metrics = Metrics()
    for _ in range(100):
        metrics.of("x").first_token.observe(0.9)
    before = Vitals.parse(metrics.render("")[0].decode(), 0.0)
    metrics.of("x").first_token.observe(0.03)
    now = Vitals.parse(metrics.render("")[0].decode(), 1.0)
    assert Span(before, now).quantile(FIRST, "x", 0.95) == pytest.approx(0.025 + 0.025 * 0.95)
    assert Span(now, now).quantile(FIRST, "x", 0.95) == pytest.approx(0.975, abs=0.03)


def test_calls_in_one_piece_count_where_nothing_was_streamed() -> None:
    metrics = Metrics()
    metrics.of("x").mean_token.observe(0.04)
    read = Vitals.parse(metrics.render("")[0].decode(), 0.0)
    assert 0.03 < (Span(read, read).row("x").inter_token_p50_s or 0) <= 0.05
    metrics.of("x").next_token.observe(0.004)
    read = Vitals.parse(metrics.render("")[0].decode(), 0.0)
    assert (Span(read, read).row("x").inter_token_p50_s or 1) <= 0.005


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ([], 0.5, None),
        ([(1.0, 0.0), (math.inf, 0.0)], 0.5, None),
        ([(1.0, 10.0), (math.inf, 10.0)], 0.5, 0.5),
        ([(1.0, 5.0), (2.0, 10.0), (math.inf, 10.0)], 0.9, 1.8),
        ([(1.0, 5.0), (math.inf, 10.0)], 0.95, 1.0),
        ([(0.0, 4.0), (1.0, 2.0), (math.inf, 4.0)], 1.0, 0.0),
    ],
)
def test_a_quantile_lies_between_its_bounds(
    buckets: list[tuple[float, float]], q: float, expected: float | None
) -> None:
    assert quantile(buckets, q) == expected
