"""From logits to a token: a pure function of logits, settings, seed and position.

A token is drawn by the Gumbel-max trick: the argmax of logits/temperature + g, where g is
Gumbel noise made from counter-based random numbers. The noise for a position does not depend on
what was drawn before it or on what else the machine computes, so anybody can draw a call's tokens
again from its receipt. The numbers are Philox 4x64-10 (Salmon et al. 2011) with key (seed, 0) and
the position in the third counter word.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.errors import GenerationError, RequestError

# OpenAI's limits for temperature and stop strings.
MAX_TEMPERATURE: Final = Decimal(2)
MAX_STOPS: Final = 4
MAX_STOP_CHARACTERS: Final = 256
# Seeds stand in JSON, where larger integers are not exact.
MAX_SEED: Final = 2**53 - 1

Logits = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Sampling:
    """How a call's tokens are chosen. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 keep all.

    Raises `RequestError` that names the parameter when a value is out of range.
    """

    max_tokens: int
    temperature: Decimal = Decimal(0)
    top_p: Decimal = Decimal(1)
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", "must be at least 1")
        _require(
            self.temperature.is_finite() and 0 <= self.temperature <= MAX_TEMPERATURE,
            "temperature",
            f"must be from 0 to {MAX_TEMPERATURE}",
        )
        _require(
            self.top_p.is_finite() and 0 < self.top_p <= 1, "top_p", "must be above 0, at most 1"
        )
        _require(self.top_k >= 0, "top_k", "must not be negative")
        _require(0 <= self.seed <= MAX_SEED, "seed", f"must be from 0 to {MAX_SEED}")
        _require(len(self.stop) <= MAX_STOPS, "stop", f"may have at most {MAX_STOPS} strings")
        _require(
            all(0 < len(text) <= MAX_STOP_CHARACTERS for text in self.stop),
            "stop",
            f"strings must have 1 to {MAX_STOP_CHARACTERS} characters",
        )

    def to_json(self) -> dict[str, int | str]:
        """Return what a receipt states. Stop strings are text of the caller and stay out."""
        return {
            "seed": self.seed,
            "temperature": format(abs(self.temperature).normalize(), "f"),
            "topP": format(self.top_p.normalize(), "f"),
            "topK": self.top_k,
            "maxTokens": self.max_tokens,
        }


def choose(logits: Logits, sampling: Sampling, position: int) -> int:
    """Return the token to place at `position` (tokens before it, prompt included).

    `logits` has shape (vocabulary,). Equal values are ordered by lower token id. Raises
    `GenerationError` when a logit is NaN or plus infinity, or none is finite.
    """
    top = np.max(logits)
    if not np.isfinite(top):
        # NaN is propagated by max, so one test finds every case.
        raise GenerationError("the model computed logits that are not numbers")
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    # Subtracting the maximum first keeps small temperatures from overflowing.
    scaled = (logits.astype(np.float64) - np.float64(top)) / float(sampling.temperature)
    kept = _kept(scaled, sampling)
    noise = gumbel(sampling.seed, position, len(scaled))
    return int(kept[np.argmax(scaled[kept] + noise[kept])])


def gumbel(seed: int, position: int, count: int) -> npt.NDArray[np.float64]:
    """Return the standard Gumbel noise of token ids 0 to `count` - 1 at a position."""
    generator = np.random.Philox(
        key=np.array([seed, 0], dtype=np.uint64),
        counter=np.array([0, 0, position, 0], dtype=np.uint64),
    )
    # 53 bits, moved half a step off zero: both logarithms are finite.
    uniform = ((generator.random_raw(count) >> np.uint64(11)) + 0.5) * 2.0**-53
    noise: npt.NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


def _kept(scaled: npt.NDArray[np.float64], sampling: Sampling) -> npt.NDArray[np.intp]:
    """Return the token ids that top-k and then top-p keep, in ascending order."""
    limit = sampling.top_k if 0 < sampling.top_k < len(scaled) else len(scaled)
    if limit == len(scaled) and sampling.top_p == 1:
        return np.arange(len(scaled))
    order = np.argsort(-scaled, kind="stable")[:limit]
    if sampling.top_p < 1:
        weights = np.exp(scaled[order])
        before = np.cumsum(weights) - weights
        # The first token is always kept; others while those before them do not reach top_p.
        keep = before < float(sampling.top_p) * np.sum(weights)
        keep[0] = True
        order = order[keep]
    return np.sort(order)


def _require(condition: bool, name: str, rule: str) -> None:
    if not condition:
        raise RequestError(f"{name} {rule}", param=name)
