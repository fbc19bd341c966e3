"""A node's metrics as its reader has them: parsed, compared with earlier ones, a row a model."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from inference.errors import UnavailableError

_FIRST: Final = "weightproof_time_to_first_token_seconds_bucket"
_NEXT: Final = "weightproof_inter_token_seconds_bucket"
_CALLS: Final = "weightproof_calls_total"
# No honest count is larger, infinity and what is not a number included.
_MOST: Final = 1e100
# With a receipt; who only asked for the price, or was refused, is no call to a reader.
_RECEIVED: Final = ("ok", "partial", "failed")


@dataclass(frozen=True)
class Vitals:
    """What the metrics said at second `at` of some clock.

    `values` are by sample and model, all other labels summed up; `buckets` are cumulative counts
    by sample, model and `streamed`; `calls` by model and status.
    """

    at: float
    values: Mapping[tuple[str, str], float]
    buckets: Mapping[tuple[str, str, str], Mapping[float, float]]
    calls: Mapping[tuple[str, str], float]

    @classmethod
    def parse(cls, text: str, at: float) -> Vitals:
        """Read Prometheus' text format. Raises `UnavailableError` for what is not metrics."""
        values: dict[tuple[str, str], float] = defaultdict(float)
        buckets: dict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
        calls: dict[tuple[str, str], float] = defaultdict(float)
        try:
            for family in text_string_to_metric_families(text):
                for name, labels, value, *_ in family.samples:
                    if not abs(value) < _MOST:
                        continue
                    model = labels.get("model", "")
                    if "le" in labels:
                        key = (name, model, labels.get("streamed", "true"))
                        buckets[key][float(labels["le"])] = value
                        continue
                    values[name, model] += value
                    if name == _CALLS:
                        calls[model, labels.get("status", "")] += value
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # foreign text
            raise UnavailableError(
                "the node's metrics cannot be read", hint="is this address a Weightproof node?"
            ) from error
        return cls(at, values, buckets, calls)

    def of(self, name: str, model: str = "") -> float:
        """Return a value; what is not there is 0."""
        return self.values.get((f"weightproof_{name}", model), 0.0)


@dataclass(frozen=True)
class Row:
    """How one model does. Rates are over `window_s` seconds; None is not known.

    `cache` and `prefix_hits` are fractions of 1, times in seconds, charges in atomic units.
    """

    model: str
    output_tokens_per_s: float
    input_tokens_per_s: float
    running: int
    waiting: int
    calls_in_flight: int
    mean_batch: float | None
    cache: float | None
    prefix_hits: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    inter_token_p50_s: float | None
    inter_token_p95_s: float | None
    charged_per_min: float
    calls: Mapping[str, int]
    window_s: float


@dataclass(frozen=True)
class Span:
    """Two readings, `before` the earlier one."""

    before: Vitals
    now: Vitals

    @property
    def seconds(self) -> float:
        """Return how far they are apart, at least a millisecond."""
        return max(self.now.at - self.before.at, 0.001)

    def grown(self, name: str, model: str) -> float:
        """Return by how much a counter grew; one that began anew has not."""
        return max(0.0, self.now.of(name, model) - self.before.of(name, model))

    def share(self, part: str, whole: str, model: str) -> float | None:
        """Return how two counters grew, as a quotient; so far, if nothing happened meanwhile."""
        grown = self.grown(whole, model)
        if grown:
            return self.grown(part, model) / grown
        total = self.now.of(whole, model)
        return self.now.of(part, model) / total if total else None

    def quantile(self, name: str, model: str, q: float) -> float | None:
        """Return a quantile of a histogram, of streams where there were any.

        Of what came between the readings; of all so far, if nothing did.
        """
        for streamed in ("true", "false"):
            now = self.now.buckets.get((name, model, streamed), {})
            before = self.before.buckets.get((name, model, streamed), {})
            fresh = {le: max(0.0, count - before.get(le, 0.0)) for le, count in now.items()}
            for counts in (fresh, now):
                found = quantile(sorted(counts.items()), q)
                if found is not None:
                    return found
        return None

    def row(self, model: str) -> Row:
        """Return how a model does."""
        now, seconds = self.now, self.seconds
        capacity = now.of("engine_cache_capacity_bytes", model)
        return Row(
            model=model,
            output_tokens_per_s=self.grown("output_tokens_total", model) / seconds,
            input_tokens_per_s=self.grown("input_tokens_total", model) / seconds,
            running=int(now.of("engine_running", model)),
            waiting=int(now.of("engine_waiting", model)),
            calls_in_flight=int(now.of("model_calls", model)),
            mean_batch=self.share("engine_batch_tokens_total", "engine_steps_total", model),
            cache=now.of("engine_cache_bytes", model) / capacity if capacity else None,
            prefix_hits=self.share(
                "engine_cached_tokens_total", "engine_input_tokens_total", model
            ),
            ttft_p50_s=self.quantile(_FIRST, model, 0.5),
            ttft_p95_s=self.quantile(_FIRST, model, 0.95),
            inter_token_p50_s=self.quantile(_NEXT, model, 0.5),
            inter_token_p95_s=self.quantile(_NEXT, model, 0.95),
            charged_per_min=self.grown("charged_atoms_total", model) * 60 / seconds,
            calls={
                status: int(count)
                for (named, status), count in sorted(now.calls.items())
                if named == model and status in _RECEIVED
            },
            window_s=seconds,
        )


def quantile(buckets: Sequence[tuple[float, float]], q: float) -> float | None:
    """Return the quantile that cumulative buckets (upper bound, count) tell; None if empty.

    Between two bounds it lies where it would if all in between were spread evenly; beyond the last
    finite bound nothing is known but that bound.
    """
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    low, below, rank = 0.0, 0.0, q * total
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound) or count <= below:
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low
