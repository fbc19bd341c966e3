"""What the calls of all conditions say: thresholds, rates, areas under curves."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from inference.audit.margin_test import HALF, SINGLE, HonestTokens, score
from replay_measure.conditions import CONDITIONS, Condition

Floats = npt.NDArray[np.float64]

CLIP: Final = 1.0
# Of how many tokens answers are judged, beside whole ones.
LENGTHS: Final = (25, 50, 100, 200, 300)
# Windows that are drawn for the rate of false positives, of each length.
WINDOWS: Final = 200_000
_BLOCK: Final = 10
# Where honest calls lose nothing at all, other machines' single precision is given some room: one
# token in a hundred that loses a hundredth of a logit.
LEAST: Final = {"mean": 0.0001, "spread": 0.001}
_STATISTICS: Final[dict[str, Callable[[Floats], float]]] = {
    "mean, cut off at 1": lambda lost: score(lost.tolist(), 1.0),
    "mean, cut off at 0.3": lambda lost: score(lost.tolist(), 0.3),
    "mean square, cut off at 1": lambda lost: float(np.mean(np.minimum(lost, 1.0) ** 2)),
    "tokens that lose": lambda lost: float(np.mean(lost > 0)),
    "the most a token loses": lambda lost: float(np.max(lost)),
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


def honest_tokens(measured: Sequence[Measured], claim: str) -> HonestTokens:
    """Return what single tokens of honest calls lost, by the arithmetic that they claim."""
    calls = [call for m in honest(measured, claim) for call in m.calls]
    lost = np.minimum(np.concatenate(calls), CLIP)
    return HonestTokens(
        mean=_decimal(max(float(lost.mean()), LEAST["mean"])),
        spread=_decimal(max(float(lost.std()), LEAST["spread"])),
        calls=len(calls),
        tokens=len(lost),
    )


def honest(measured: Sequence[Measured], claim: str) -> list[Measured]:
    """Return the honest conditions of an arithmetic."""
    return [m for m in measured if m.condition.honest and m.condition.claim == claim]


def bound(tokens: HonestTokens, sigmas: float, count: int) -> float:
    """Return the highest honest score of `count` tokens."""
    return float(tokens.mean) + sigmas * float(tokens.spread) / math.sqrt(count)


def windows(calls: Sequence[Floats], length: int, seed: int) -> Floats:
    """Return the scores of `WINDOWS` windows of `length` tokens, each of one honest call.

    A window is made of blocks of neighbours, since tokens of one call are alike; calls differ, so
    that none is made of several.
    """
    random = np.random.default_rng(seed)
    blocks = max(1, length // _BLOCK)
    size = length // blocks
    scores = np.empty(WINDOWS)
    long = [np.minimum(call, CLIP) for call in calls if len(call) >= size]
    picked = random.integers(0, len(long), WINDOWS)
    for number, call in enumerate(long):
        mine = np.nonzero(picked == number)[0]
        sums = np.convolve(call, np.ones(size), "valid")
        starts = random.integers(0, len(sums), (len(mine), blocks))
        scores[mine] = sums[starts].sum(axis=1) / (blocks * size)
    return scores


def auc(honest_scores: Sequence[float], other: Sequence[float]) -> float:
    """Return how often one of `other` scores more than an honest one; ties count half."""
    one, two = np.array(honest_scores)[:, None], np.array(other)[None, :]
    return float((two > one).mean() + (two == one).mean() / 2)


def summary(measured: Sequence[Measured], sigmas: float) -> dict[str, Any]:
    """Return all figures."""
    return {
        "clip": CLIP,
        "sigmas": sigmas,
        "honest": {c: _honest(measured, c, sigmas) for c in (SINGLE, HALF)},
        "conditions": [_condition(m, measured, sigmas) for m in measured],
        "statistics": _statistics(measured),
    }


def _honest(measured: Sequence[Measured], claim: str, sigmas: float) -> dict[str, Any]:
    calls = [call for m in honest(measured, claim) for call in m.calls]
    tokens = honest_tokens(measured, claim)
    rates = {}
    for length in LENGTHS:
        scores = windows(calls, length, seed=length)
        rates[length] = {
            "bound": round(bound(tokens, sigmas, length), 6),
            "highest": round(float(scores.max()), 6),
            "above": int((scores > bound(tokens, sigmas, length)).sum()),
        }
    accused = sum(_score(call) > bound(tokens, sigmas, len(call)) for call in calls)
    needed = max((_score(c) - float(tokens.mean)) * math.sqrt(len(c)) for c in calls)
    return {
        **tokens.to_json(),
        "accused": accused,
        "most_sigmas": round(needed / float(tokens.spread), 2),
        # Of n honest calls without one that is accused: below this, with 95 % confidence.
        "rate_at_most": round(3 / len(calls), 4),
        "windows": WINDOWS,
        "by_length": rates,
    }


def _condition(m: Measured, measured: Sequence[Measured], sigmas: float) -> dict[str, Any]:
    condition = m.condition
    scores = [_score(call) for call in m.calls]
    told: dict[str, Any] = {
        "name": condition.name,
        "honest": condition.honest,
        "arithmetic": condition.claim,
        "calls": len(m.calls),
        "tokens": m.tokens,
        "losing_per_1000": round(1000 * float((np.concatenate(m.calls) > 0).mean()), 2),
        "score": {
            "lowest": round(min(scores), 6),
            "mean": round(float(np.mean(scores)), 6),
            "highest": round(max(scores), 6),
        },
        "accused": {claim: _accused(m, measured, claim, sigmas) for claim in (SINGLE, HALF)},
    }
    if not condition.honest:
        told["auc"] = {
            claim: {str(length): _auc_within(m, measured, claim, length) for length in (100, 300)}
            for claim in (SINGLE, HALF)
        }
        told["tokens_to_accuse"] = _needed(m, measured, sigmas)
    return told


def _auc_within(m: Measured, measured: Sequence[Measured], claim: str, length: int) -> float:
    fair = [_score(call[:length]) for h in honest(measured, claim) for call in h.calls]
    return round(auc(fair, [_score(call[:length]) for call in m.calls]), 5)


def _accused(m: Measured, measured: Sequence[Measured], claim: str, sigmas: float) -> int:
    """Return how many calls are accused if their receipts name an arithmetic."""
    tokens = honest_tokens(measured, claim)
    return sum(_score(call) > bound(tokens, sigmas, len(call)) for call in m.calls)


def _needed(m: Measured, measured: Sequence[Measured], sigmas: float) -> dict[str, int]:
    """Return after how many tokens half of the calls are accused for good; 0 where they are not."""
    told = {}
    for claim in (SINGLE, HALF):
        tokens = honest_tokens(measured, claim)
        counts = [_first_accused(call, tokens, sigmas) for call in m.calls]
        found = sorted(c for c in counts if c)
        half = (len(counts) + 1) // 2
        told[claim] = found[half - 1] if len(found) >= half else 0
    return told


def _first_accused(call: Floats, tokens: HonestTokens, sigmas: float) -> int:
    scores = np.cumsum(np.minimum(call, CLIP)) / np.arange(1, len(call) + 1)
    bounds = [bound(tokens, sigmas, count) for count in range(1, len(call) + 1)]
    return int(np.argmax(scores > bounds)) + 1 if (scores > bounds).any() else 0


def _statistics(measured: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Return the areas under the curve that other statistics would have, against bfloat16 calls."""
    fair = [call for m in honest(measured, HALF) for call in m.calls]
    told = {}
    for name, statistic in _STATISTICS.items():
        own = [statistic(call) for call in fair]
        told[name] = {
            m.condition.name: round(auc(own, [statistic(call) for call in m.calls]), 5)
            for m in measured
            if not m.condition.honest
        }
    return told


def _score(call: Floats) -> float:
    return score(call.tolist(), CLIP)


def _decimal(number: float) -> str:
    """Return a number as thresholds have it, rounded up."""
    return f"{math.ceil(number * 1e6) / 1e6:.6f}".rstrip("0").rstrip(".") or "0"
