"""What most calls need to know of logits, found while they are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.reductions import peaks_of_lanes, sum_of_exps


@njit(nogil=True, cache=True)
def summarise(logits: Any, at: int, count: int, found: Any) -> None:
    """Write (best token, its logit, the second-best logit, Σ exp(logit - best), is one NaN).

    `count` logits begin at `at`; what follows them up to a whole vector is overwritten. Of equal
    ones the lowest token is the best.
    """
    vectors = (count + LANES - 1) // LANES
    for number in range(count, vectors * LANES):
        logits[at + number] = -np.inf
    bests, seconds = np.empty(LANES, dtype=np.float32), np.empty(LANES, dtype=np.float32)
    places, odd = np.empty(LANES, dtype=np.int32), np.empty(LANES, dtype=np.int32)
    peaks_of_lanes(logits, at, vectors, bests, seconds, places, odd)
    best, second, token, is_odd = np.float32(-np.inf), np.float32(-np.inf), count, 0
    for lane in range(LANES):
        where = places[lane] * LANES + lane
        if bests[lane] > best or (bests[lane] == best and where < token):
            second = max(second, best)
            best, token = bests[lane], where
        else:
            second = max(second, bests[lane])
        second = max(second, seconds[lane])
        is_odd |= odd[lane]
    found[0], found[1], found[2], found[4] = token, best, second, is_odd
    found[3] = sum_of_exps(logits, at, vectors, best)
