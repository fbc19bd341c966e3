"""Which ratios are reported, and what they are to reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine_bench.calls import Round, first_token_ms, over, rates


@dataclass(frozen=True)
class Ratio:
    """One side's measure over another's: tokens a second, or the time to the first token."""

    name: str
    over: str
    under: str
    first_token: bool = False

    def of(self, rounds: Mapping[str, Sequence[Round]]) -> dict[str, float] | None:
        """Return median and ends over the rounds; None when a side was not measured."""
        if self.over not in rounds or self.under not in rounds:
            return None
        measure = first_token_ms if self.first_token else rates
        return over(measure(rounds[self.over]), measure(rounds[self.under]))


@dataclass(frozen=True)
class Goal:
    """What a ratio's median shall reach at one concurrency, or stay below."""

    ratio: str
    concurrency: int
    bound: float
    most: bool = False

    def met(self, value: float) -> bool:
        """Say whether it is reached."""
        return value <= self.bound if self.most else value >= self.bound


RATIOS: Final = (
    Ratio("ours_over_vllm", "ours", "vllm"),
    Ratio("ours_over_transformers", "ours", "transformers"),
    Ratio("ours_over_transformers_batching", "ours", "transformers_batching"),
    Ratio("http_over_in_process", "ours", "in_process"),
    Ratio("paid_over_unpaid", "paid", "ours"),
    Ratio("exact_over_default", "exact", "in_process"),
    Ratio("first_token_ours_over_vllm", "ours", "vllm", first_token=True),
)
_EVERYWHERE: Final = (1, 4, 16, 32)
GOALS: Final = (
    Goal("ours_over_transformers", 16, 10),
    Goal("ours_over_vllm", 1, 1.2),
    Goal("ours_over_vllm", 4, 1.2),
    Goal("ours_over_vllm", 16, 1.5),
    Goal("ours_over_vllm", 32, 1.5),
    Goal("first_token_ours_over_vllm", 16, 0.5, most=True),
    *(Goal("http_over_in_process", concurrency, 0.8) for concurrency in _EVERYWHERE),
    *(Goal("paid_over_unpaid", concurrency, 0.97) for concurrency in _EVERYWHERE),
)


def ratios(rounds: Mapping[str, Sequence[Round]]) -> dict[str, dict[str, float]]:
    """Return every ratio whose two sides were measured."""
    found = {ratio.name: ratio.of(rounds) for ratio in RATIOS}
    return {name: value for name, value in found.items() if value is not None}


def goals(measured: Mapping[int, Mapping[str, Sequence[Round]]]) -> list[dict[str, object]]:
    """Return each goal that could be judged, its ratio's median and whether it is met."""
    judged: list[dict[str, object]] = []
    for goal in GOALS:
        found = ratios(measured.get(goal.concurrency, {})).get(goal.ratio)
        if found is None:
            continue
        judged.append(
            {
                "ratio": goal.ratio,
                "concurrency": goal.concurrency,
                "goal": f"{'<=' if goal.most else '>='} {goal.bound:g}",
                "median": found["median"],
                "met": goal.met(found["median"]),
            }
        )
    return judged
