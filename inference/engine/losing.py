"""By how much a token loses that a sampler of these logits would not have chosen.

Rounding moves logits a little. So what counts is by how much they would have to be moved for the
token to be chosen: how far its score is below the winner's, and where top-k or top-p decide, how
far it is from being kept, or whoever beats it from being cut off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.engine.choosing import choose, compared, gumbel, scale
from inference.engine.sampling import Logits, Sampling

Floats = npt.NDArray[np.float64]


def behind(
    logits: Logits,
    sampling: Sampling,
    position: int,
    token: int,
    counts: Mapping[int, int] | None = None,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> float:
    """Return by how many logits `token` lost to the one that `choose` takes: 0 for that one.

    Infinite for a token that a grammar forbids. Arguments and errors are those of `choose`.
    """
    winner = choose(logits, sampling, position, counts, allowed).token
    if token == winner:
        return 0.0
    scores = compared(logits, sampling, counts, allowed)
    if sampling.temperature == 0 or not math.isfinite(scores[token]):
        return float(scores[winner] - scores[token])
    scaled, kept = scale(scores, sampling)
    noise = gumbel(sampling.seed, position, len(scaled), choice=sampling.choice)
    ahead = scaled + noise - (scaled[token] + noise[token])
    if not len(kept):
        return max(0.0, float(ahead[winner])) * float(sampling.temperature)
    rivals = np.nonzero(kept & (ahead > 0))[0]
    edge = _Edge.of(scaled, sampling)
    # Each rival must be caught up with or cut off; the easier of the two is done.
    beaten = [min(float(ahead[rival]), edge.inside(int(rival))) for rival in rivals]
    lost = max([0.0, edge.outside(token), *beaten])
    return lost * float(sampling.temperature)


@dataclass(frozen=True)
class _Edge:
    """Where top-k and top-p cut, and what it takes to move a token across.

    `ranked` are scaled logits from the highest on, `weights` what they weigh in the nucleus, 0 from
    `top_k` on; `before` (one longer) has the weight in front of each place. `place` is where each
    token of the vocabulary stands.

    A move by d lets tokens change places that are d apart, and the odds of what is in front by d.
    """

    ranked: Floats
    weights: Floats
    before: Floats
    place: npt.NDArray[np.intp]
    top_k: int
    share: float

    @classmethod
    def of(cls, scaled: Floats, sampling: Sampling) -> _Edge:
        """Rank the scaled logits."""
        order = np.argsort(-scaled, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        ranked = scaled[order]
        top_k = min(sampling.top_k or len(order), len(order))
        weights = np.exp(ranked)
        weights[top_k:] = 0
        before = np.concatenate([[0.0], np.cumsum(weights)])
        return cls(ranked, weights, before, place, top_k, float(sampling.top_p))

    def outside(self, token: int) -> float:
        """Return how far a token is from being kept, 0 if it is."""
        place = int(self.place[token])
        far = 0.0
        if place >= self.top_k:
            far = float(self.ranked[self.top_k - 1] - self.ranked[place])
        if self.share < 1:
            # It overtakes all from some place on, and what is still in front loses weight.
            overtaken = self.ranked[: place + 1] - self.ranked[place]
            lighter = self._odds(self.before[: place + 1]) - _odds(self.share)
            far = max(far, float(np.min(np.maximum(overtaken, lighter))))
        return max(0.0, far)

    def inside(self, token: int) -> float:
        """Return how far a token that is kept is from being cut off."""
        place = int(self.place[token])
        far = math.inf
        if self.top_k < len(self.ranked):
            far = float(self.ranked[place] - self.ranked[self.top_k])
        if self.share < 1:
            # Some behind it overtake it, and what is in front then gains weight.
            passed = self.ranked[place] - self.ranked[place : self.top_k]
            front = self.before[place + 1 : self.top_k + 1] - self.weights[place]
            heavier = _odds(self.share) - self._odds(front)
            far = min(far, float(np.min(np.maximum(passed, heavier))))
        return max(0.0, far)

    def _odds(self, front: Floats) -> Floats:
        """Return the logarithms of the odds of what is in front of places."""
        with np.errstate(divide="ignore"):
            odds: Floats = np.log(np.maximum(front, 0)) - np.log(
                np.maximum(self.before[-1] - front, 0)
            )
        return odds


def _odds(share: float) -> float:
    return math.log(share / (1 - share))
