"""What the calls of all conditions say: thresholds, rates, areas under curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.audit.margin_test import HALF, SINGLE, HonestTokens
from replay_measure.conditions import CONDITIONS, Condition

Floats = npt.NDArray[np.float64]

CLIP: Final = 1.0
# Of how many tokens answers are judged, beside whole ones.
LENGTHS: Final = (25, 50, 100, 200, 300)
# Windows that are drawn for the rate of false positives, of each length.
WINDOWS: Final = 200_000
_BLOCK: Final = 10
# The quantile of the normal distribution behind one-sided intervals of 95 %.
_Z95: Final = 1.645
# Beyond what an honest token loses counts; of single precision, where none was seen to lose
# anything, other machines' is given that room too.
FLOORS: Final = {SINGLE: "0.01", HALF: "0.1"}
ONE_IN: Final = 100_000
# Models that nobody measured are given so many times the room.
OTHERS: Final = 3
_STATISTICS: Final[dict[str, Callable[[Floats], float]]] = {
    "sum beyond 0.1": lambda lost: float(np.maximum(np.minimum(lost, CLIP) - 0.1, 0).sum()),
    "sum beyond 0.2": lambda lost: float(np.maximum(np.minimum(lost, CLIP) - 0.2, 0).sum()),
    "sum of squares": lambda lost: float((np.minimum(lost, CLIP) ** 2).sum()),
    "mean (Token-DiFR)": lambda lost: float(np.minimum(lost, CLIP).mean()),
    "mean of squares": lambda lost: float((np.minimum(lost, CLIP) ** 2).mean()),
    "most of one token": lambda lost: float(np.max(lost)),
    "tokens that lose": lambda lost: float((lost > 0).mean()),
}


@dataclass(frozen=True)
class Measured:
    """A condition's calls: what each token of each lost, in logits."""

    condition: Condition
    calls: tuple[Floats, ...]
    samplings: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """How many tokens there are."""
        return sum(map(len, self.calls))


def read(work: Path) -> list[Measured]:
    """Return what was measured so far."""
    found = []
    for condition in CONDITIONS:
        file = work / condition.file
        if not file.exists():
            continue
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        lost = [np.array([math.inf if b < 0 else b for b in row["behind"]]) for row in rows]
        found.append(Measured(condition, tuple(lost), tuple(row["sampling"] for row in rows)))
    return found


def honest_tokens(measured: Sequence[Measured], claim: str, room: int = 1) -> HonestTokens:
    """Return what tokens of honest calls lose, by the arithmetic that they claim.

    Rate and size are the upper ends of their one-sided intervals of 95 % confidence; where no token
    lost more than the floor, the size is the floor. Floor and size are given `room` times.
    """
    calls = [call for m in honest(measured, claim) for call in m.calls]
    floor = float(FLOORS[claim])
    lost = np.concatenate(calls)
    beyond = np.minimum(lost[lost > floor], CLIP) - floor
    count = len(beyond)
    size = floor
    if count:
        size = 2 * float(beyond.sum()) / _chi_squared(2 * count, -_Z95)
    return HonestTokens(
        floor=_decimal(floor * room),
        rate=_decimal(_chi_squared(2 * count + 2, _Z95) / 2 / len(lost)),
        size=_decimal(size * room),
        calls=len(calls),
        tokens=len(lost),
    )


def _chi_squared(freedom: int, z: float) -> float:
    """Return a quantile of the chi-squared distribution (Wilson and Hilferty 1931)."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + z * math.sqrt(part)) ** 3


def honest(measured: Sequence[Measured], claim: str) -> list[Measured]:
    """Return the honest conditions of an arithmetic."""
    return [m for m in measured if m.condition.honest and m.condition.claim == claim]


def windows(calls: Sequence[Floats], honest_: HonestTokens, length: int) -> Floats:
    """Return the scores of `WINDOWS` answers of `length` tokens, made of blocks of honest calls.

    Blocks are of ten neighbours, since tokens beside one another are alike.
    """
    random = np.random.default_rng(length)
    floor = float(honest_.floor)
    blocks: list[float] = []
    for call in calls:
        over = np.maximum(np.minimum(call, CLIP) - floor, 0)
        whole = len(over) // _BLOCK * _BLOCK
        blocks += over[:whole].reshape(-1, _BLOCK).sum(axis=1).tolist()
    picked = random.integers(0, len(blocks), (WINDOWS, max(1, length // _BLOCK)))
    return np.asarray(np.array(blocks)[picked].sum(axis=1))


def auc(honest_scores: Sequence[float], other: Sequence[float]) -> float:
    """Return how often one of `other` scores more than an honest one; ties count half."""
    one, two = np.array(honest_scores)[:, None], np.array(other)[None, :]
    return round(float((two > one).mean() + (two == one).mean() / 2), 5)


def summary(measured: Sequence[Measured]) -> dict[str, Any]:
    """Return all figures."""
    fair = {claim: honest_tokens(measured, claim) for claim in (SINGLE, HALF)}
    return {
        "clip": CLIP,
        "one_in": ONE_IN,
        "honest": {claim: _honest(measured, claim, fair[claim]) for claim in fair},
        "conditions": [_condition(m, measured, fair) for m in measured],
        "statistics": _statistics(measured),
    }


def _honest(measured: Sequence[Measured], claim: str, fair: HonestTokens) -> dict[str, Any]:
    calls = [call for m in honest(measured, claim) for call in m.calls]
    lengths = {}
    for length in LENGTHS:
        scores, bound = windows(calls, fair, length), fair.bound(length, ONE_IN)
        lengths[str(length)] = {
            "bound": round(bound, 4),
            "highest": round(float(scores.max()), 4),
            "above": int((scores > bound).sum()),
        }
    return {
        **fair.to_json(),
        "most_lost": round(float(np.concatenate(calls).max()), 4),
        "highest_score": round(max(fair.score(call.tolist(), CLIP) for call in calls), 4),
        "accused": _accused(calls, fair),
        # Of n honest calls none is accused: the rate is below this, with 95 % confidence.
        "rate_at_most": round(3 / len(calls), 5),
        "windows": WINDOWS,
        "by_length": lengths,
    }


def _condition(
    m: Measured, measured: Sequence[Measured], fair: Mapping[str, HonestTokens]
) -> dict[str, Any]:
    condition = m.condition
    told: dict[str, Any] = {
        "name": condition.name,
        "honest": condition.honest,
        "arithmetic": condition.claim,
        "calls": len(m.calls),
        "tokens": m.tokens,
        # An answer whose every token wins is the model's own: no test of tokens can tell.
        "own_answers": sum(not call.any() for call in m.calls),
        "losing_per_1000": round(1000 * float((np.concatenate(m.calls) > 0).mean()), 2),
        "accused": {claim: _accused(m.calls, fair[claim]) for claim in fair},
    }
    if not condition.honest:
        told["auc"] = {claim: _areas(m, measured, claim, fair[claim]) for claim in fair}
        told["tokens_to_accuse"] = {c: _needed(m.calls, fair[c]) for c in fair}
    return told


def _areas(
    m: Measured, measured: Sequence[Measured], claim: str, fair: HonestTokens
) -> dict[str, float]:
    """Return areas under the curve, of all calls and by sampling, against honest ones."""
    own = [_score(call, fair) for h in honest(measured, claim) for call in h.calls]
    told = {"all": auc(own, [_score(call, fair) for call in m.calls])}
    for how in sorted(set(m.samplings)):
        picked = zip(m.calls, m.samplings, strict=True)
        told[how] = auc(own, [_score(call, fair) for call, sampling in picked if sampling == how])
    others = [_score(call, fair) for call in m.calls if call.any()]
    return {**told, "other_answers": auc(own, others)}


def _accused(calls: Sequence[Floats], fair: HonestTokens) -> int:
    return sum(_score(call, fair) > fair.bound(len(call), ONE_IN) for call in calls)


def _needed(calls: Sequence[Floats], fair: HonestTokens) -> int:
    """Return after how many tokens half of the calls are accused; 0 where they are not."""
    found = sorted(count for call in calls if (count := _first_accused(call, fair)))
    half = (len(calls) + 1) // 2
    return found[half - 1] if len(found) >= half else 0


def _first_accused(call: Floats, fair: HonestTokens) -> int:
    over = np.cumsum(np.maximum(np.minimum(call, CLIP) - float(fair.floor), 0))
    # The bound rises with the tokens: only where a token loses can it be passed.
    for place in np.nonzero(call > float(fair.floor))[0].tolist():
        if over[place] > fair.bound(place + 1, ONE_IN):
            return place + 1
    return 0


def _statistics(measured: Sequence[Measured]) -> dict[str, dict[str, str]]:
    """Return how many calls of each lie other statistics would set apart from all bfloat16 calls.

    Those that score more than every honest one.
    """
    fair = [call for m in honest(measured, HALF) for call in m.calls]
    told = {}
    for name, statistic in _STATISTICS.items():
        most = max(map(statistic, fair))
        told[name] = {
            m.condition.name: f"{sum(statistic(c) > most for c in m.calls)} of {len(m.calls)}"
            for m in measured
            if not m.condition.honest
        }
    return told


def _score(call: Floats, fair: HonestTokens) -> float:
    return fair.score(call.tolist(), CLIP)


def _decimal(number: float) -> str:
    """Return a number as thresholds have it, rounded up."""
    return f"{math.ceil(round(number * 1e6, 3)) / 1e6:.6f}".rstrip("0").rstrip(".") or "0"
