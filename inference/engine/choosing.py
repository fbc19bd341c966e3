"""From logits to a token: a pure function of logits, settings, seed and position.

A token is drawn by the Gumbel-max trick: the argmax of logits/temperature + g, where g is
Gumbel noise made from counter-based random numbers. The noise for a position does not depend on
what was drawn before it or on what else the machine computes, so anybody can draw a call's tokens
again from its receipt. `gumbel` says what the noise is; `kernels.draw` makes only what matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from inference.engine.kernels.draw import draw, mark_kept
from inference.engine.sampling import NOT_NUMBERS, Choice, Logits, Peak, Sampling
from inference.errors import GenerationError

_EVERY: Final = np.zeros(0, dtype=np.bool_)


def choose(
    logits: Logits,
    sampling: Sampling,
    position: int,
    counts: Mapping[int, int] | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
    peak: Peak | None = None,
) -> Choice:
    """Return the token to place at `position` (tokens before it, prompt included).

    `logits` has shape (vocabulary,). `counts` says how often each token stands in the answer so
    far, `allowed` of shape (vocabulary,) which tokens may come; `peak` is what is known of the
    logits already. Equal values are ordered by lower token id. Raises `GenerationError` when a
    logit is NaN or plus infinity, or none is finite.
    """
    peak = peak or peak_of(logits)
    if not (math.isfinite(peak.best) and math.isfinite(peak.total)):
        raise GenerationError(NOT_NUMBERS)
    if sampling.is_plain and allowed is None:
        return peak.choice()
    scores = compared(logits, sampling, counts, allowed)
    if sampling.temperature == 0:
        token, margin = _highest(scores)
    else:
        token, margin = _drawn(scores, sampling, position)
    everything = peak.best + math.log(peak.total)
    top = _likeliest(logits, sampling.top_logprobs)
    return Choice(
        token,
        float(logits[token]) - everything,
        margin,
        tuple((id, float(logits[id]) - everything) for id in top),
    )


def peak_of(logits: Logits) -> Peak:
    """Return what `choose` needs to know of logits, where nobody found it on the way."""
    token = int(np.argmax(logits))
    best = float(logits[token])
    if not math.isfinite(best):  # NaN is the highest of all to argmax
        return Peak(token, best, best, math.nan)
    second = float(np.max(np.delete(logits, token), initial=-np.inf))
    return Peak(token, best, second, float(np.sum(np.exp(logits.astype(np.float64) - best))))


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


def compared(
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


def _highest(scores: npt.NDArray[np.float64]) -> tuple[int, float]:
    token = int(np.argmax(scores))
    second = np.max(np.delete(scores, token), initial=-np.inf)
    return token, float(scores[token] - second)


def _drawn(scores: npt.NDArray[np.float64], sampling: Sampling, position: int) -> tuple[int, float]:
    scaled, kept = scale(scores, sampling)
    token, ahead = draw(scaled, kept, position, sampling.seed, sampling.choice)
    return int(token), float(ahead) * float(sampling.temperature)


def scale(
    scores: npt.NDArray[np.float64], sampling: Sampling
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return what noise is added to, 0 the highest, and which tokens are kept; empty means all."""
    # Subtracting the maximum first keeps small temperatures from overflowing.
    scaled = (scores - np.max(scores)) / float(sampling.temperature)
    kept = _EVERY
    if sampling.top_k or sampling.top_p < 1:
        kept = np.empty(len(scaled), dtype=np.bool_)
        mark_kept(scaled, sampling.top_k, float(sampling.top_p), kept)
    return scaled, kept


def _likeliest(logits: Logits, count: int) -> list[int]:
    if not count:
        return []
    count = min(count, len(logits))
    edge = np.partition(logits, len(logits) - count)[len(logits) - count]
    high = np.nonzero(logits >= edge)[0]
    found: list[int] = high[np.argsort(-logits[high], kind="stable")][:count].tolist()
    return found
