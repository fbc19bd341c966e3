"""From logits to a token: a pure function of logits, settings, seed and position.

A token is drawn by the Gumbel-max trick: the argmax of logits/temperature + g, where g is
Gumbel noise made from counter-based random numbers. The noise for a position does not depend on
what was drawn before it or on what else the machine computes, so anybody can draw a call's tokens
again from its receipt. The numbers are Philox 4x64-10 (Salmon et al. 2011) with key (seed, choice)
and the position in the third counter word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
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
MAX_PENALTY: Final = Decimal(2)
MAX_TOP_LOGPROBS: Final = 20
_NOT_NUMBERS: Final = "the model computed logits that are not numbers"

Logits = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Sampling:
    """How a call's tokens are chosen. Temperature 0 is greedy; `top_k` 0 and `top_p` 1 keep all.

    `choice` numbers the answers to one request: each is drawn with noise of its own. Penalties are
    taken off the logits of tokens of the answer so far (OpenAI's formula). `top_logprobs` is how
    many of the likeliest tokens are told of beside the one that was chosen.

    Raises `RequestError` that names the parameter when a value is out of range.
    """

    max_tokens: int
    temperature: Decimal = Decimal(0)
    top_p: Decimal = Decimal(1)
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    frequency_penalty: Decimal = Decimal(0)
    presence_penalty: Decimal = Decimal(0)
    choice: int = 0
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 1, "max_tokens", "must be at least 1")
        _require(
            self.temperature.is_finite() and 0 <= self.temperature <= MAX_TEMPERATURE,
            "temperature",
            f"must be from 0 to {MAX_TEMPERATURE}",
        )
        for name in ("frequency_penalty", "presence_penalty"):
            value: Decimal = getattr(self, name)
            _require(
                value.is_finite() and abs(value) <= MAX_PENALTY,
                name,
                f"must be from -{MAX_PENALTY} to {MAX_PENALTY}",
            )
        _require(0 <= self.choice <= MAX_SEED, "n", "is out of range")
        _require(
            0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
            "top_logprobs",
            f"must be from 0 to {MAX_TOP_LOGPROBS}",
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

    @property
    def is_plain(self) -> bool:
        """Return whether the likeliest token is taken and nothing else is asked."""
        penalties = self.frequency_penalty or self.presence_penalty
        return self.temperature == 0 and not penalties and not self.top_logprobs

    def to_json(self) -> dict[str, int | str]:
        """Return what a receipt states. Stop strings are text of the caller and stay out."""
        return {
            "seed": self.seed,
            "temperature": format(abs(self.temperature).normalize(), "f"),
            "topP": format(self.top_p.normalize(), "f"),
            "topK": self.top_k,
            "maxTokens": self.max_tokens,
        }


@dataclass(frozen=True)
class Choice:
    """A token that was chosen, and how clearly.

    `logprob` is its log-probability under the model itself: temperature 1, no penalties, nothing
    cut off. `margin` is by how much, in logits, the runner-up lost; infinite where there was none.
    A replay whose rounding differs can only tip choices of small margin. `top` are the likeliest
    tokens with their log-probabilities, as many as were asked for.
    """

    token: int
    logprob: float
    margin: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Peak:
    """What a forward pass found of logits on its way.

    The best token, the lowest id where several are equal; its logit and the second-best one; and
    the sum of exp(logit - best), NaN where a logit is.
    """

    token: int
    best: float
    second: float
    total: float

    def choice(self) -> Choice:
        """Return the greedy choice. Raises `GenerationError` like `choose`."""
        if not (math.isfinite(self.best) and math.isfinite(self.total)):
            raise GenerationError(_NOT_NUMBERS)
        return Choice(self.token, -math.log(self.total), self.best - self.second)


def choose(
    logits: Logits,
    sampling: Sampling,
    position: int,
    counts: Mapping[int, int] | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> Choice:
    """Return the token to place at `position` (tokens before it, prompt included).

    `logits` has shape (vocabulary,). `counts` says how often each token stands in the answer so
    far, `allowed` of shape (vocabulary,) which tokens may come. Equal values are ordered by lower
    token id. Raises `GenerationError` when a logit is NaN or plus infinity, or none is finite.
    """
    top = np.max(logits)
    if not np.isfinite(top):
        # NaN is propagated by max, so one test finds every case.
        raise GenerationError(_NOT_NUMBERS)
    likely = _likelihood(logits, sampling.top_logprobs)
    scores = _penalised(logits, sampling, counts, allowed)
    if sampling.temperature == 0:
        kept, unit = scores, 1.0
    else:
        # Subtracting the maximum first keeps small temperatures from overflowing.
        unit = float(sampling.temperature)
        kept = (scores - np.max(scores)) / unit
        noise = gumbel(sampling.seed, position, len(kept), choice=sampling.choice)
        kept = np.where(_is_kept(kept, sampling), kept + noise, -np.inf)
    token = int(np.argmax(kept))
    best, kept[token] = kept[token], -np.inf
    return Choice(token, float(likely.of(token)), float(best - np.max(kept)) * unit, likely.top)


def gumbel(seed: int, position: int, count: int, *, choice: int = 0) -> npt.NDArray[np.float64]:
    """Return the standard Gumbel noise of token ids 0 to `count` - 1 at a position."""
    generator = np.random.Philox(
        key=np.array([seed, choice], dtype=np.uint64),
        counter=np.array([0, 0, position, 0], dtype=np.uint64),
    )
    # 53 bits, moved half a step off zero: both logarithms are finite.
    uniform = ((generator.random_raw(count) >> np.uint64(11)) + 0.5) * 2.0**-53
    noise: npt.NDArray[np.float64] = -np.log(-np.log(uniform))
    return noise


@dataclass(frozen=True)
class _Likelihood:
    """Log-probabilities under the model itself: `logits` less their `total` (log-sum-exp)."""

    logits: Logits
    total: np.float64
    top: tuple[tuple[int, float], ...]

    def of(self, token: int) -> np.float64:
        return np.float64(self.logits[token]) - self.total


def _likelihood(logits: Logits, count: int) -> _Likelihood:
    top = np.float64(np.max(logits))
    total = top + np.log(np.sum(np.exp(logits.astype(np.float64) - top)))
    best = np.argsort(-logits, kind="stable")[:count] if count else ()
    return _Likelihood(
        logits, total, tuple((int(id), float(np.float64(logits[id]) - total)) for id in best)
    )


def _penalised(
    logits: Logits,
    sampling: Sampling,
    counts: Mapping[int, int] | None,
    allowed: npt.NDArray[np.bool_] | None,
) -> npt.NDArray[np.float64]:
    """Return the logits that are compared: penalties taken off, forbidden tokens out."""
    scores = logits.astype(np.float64)
    if counts and (sampling.frequency_penalty or sampling.presence_penalty):
        often, once = float(sampling.frequency_penalty), float(sampling.presence_penalty)
        for token, count in counts.items():
            scores[token] -= count * often + once
    if allowed is not None:
        scores[~allowed] = -np.inf
        if not np.isfinite(np.max(scores)):
            raise GenerationError("no token that may come here is possible")
    return scores


def _is_kept(scaled: npt.NDArray[np.float64], sampling: Sampling) -> npt.NDArray[np.bool_]:
    """Return which tokens top-k and then top-p keep."""
    limit = sampling.top_k if 0 < sampling.top_k < len(scaled) else len(scaled)
    if limit == len(scaled) and sampling.top_p == 1:
        return np.ones(len(scaled), dtype=np.bool_)
    order = np.argsort(-scaled, kind="stable")[:limit]
    if sampling.top_p < 1:
        weights = np.exp(scaled[order])
        before = np.cumsum(weights) - weights
        # The first token is always kept; others while those before them do not reach top_p.
        keep = before < float(sampling.top_p) * np.sum(weights)
        keep[0] = True
        order = order[keep]
    kept = np.zeros(len(scaled), dtype=np.bool_)
    kept[order] = True
    return kept


def _require(condition: bool, name: str, rule: str) -> None:
    if not condition:
        raise RequestError(f"{name} {rule}", param=name)
