"""One call as its client saw it, and what many of them say together."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

# A thousandth of a millisecond is finer than any clock here.
_DIGITS = 3


@dataclass(frozen=True)
class Call:
    """One answer. Times are seconds of one monotonic clock; `times` has each piece of text.

    `evidence` says whether a receipt came with it.
    """

    began: float
    ended: float
    times: tuple[float, ...]
    input_tokens: int
    output_tokens: int
    evidence: bool = False

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class Round:
    """All calls of one closed loop."""

    calls: tuple[Call, ...]

    @property
    def rate(self) -> float:
        """Return tokens made in a second, from the first request to the last byte."""
        seconds = max(c.ended for c in self.calls) - min(c.began for c in self.calls)
        return sum(c.output_tokens for c in self.calls) / seconds


def figures(rounds: Sequence[Round]) -> dict[str, object]:
    """Return what is reported of a side at one concurrency."""
    calls = [call for one in rounds for call in one.calls]
    rates = [one.rate for one in rounds]
    gaps = [b - a for call in calls for a, b in zip(call.times, call.times[1:], strict=False)]
    return {
        "tokens_per_s": spread(rates),
        "ttft_ms": _percentiles(call.times[0] - call.began for call in calls if call.times),
        "itl_ms": _percentiles(gaps),
        "calls": len(calls),
        "input_tokens_per_call": round(statistics.mean(c.input_tokens for c in calls), 1),
        "output_tokens_per_call": round(statistics.mean(c.output_tokens for c in calls), 1),
        "receipts": sum(call.evidence for call in calls),
    }


def first_token_ms(rounds: Sequence[Round]) -> list[float]:
    """Return each round's median time to the first text, in milliseconds."""
    return [
        statistics.median(1000 * (call.times[0] - call.began) for call in one.calls if call.times)
        for one in rounds
    ]


def rates(rounds: Sequence[Round]) -> list[float]:
    """Return each round's tokens a second."""
    return [one.rate for one in rounds]


def over(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Return the ratio of two sides, taken round by round."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and both ends."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: round(value, _DIGITS) for name, value in named.items()}


def _percentiles(seconds: Iterable[float]) -> dict[str, float]:
    values = sorted(1000 * value for value in seconds)
    if not values:
        return {}
    named = {"p50": values[len(values) // 2], "p95": values[int(len(values) * 0.95)]}
    return {name: round(value, _DIGITS) for name, value in named.items()}
