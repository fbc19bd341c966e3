"""What most calls need to know of logits, found while they are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from inference.engine.kernels.numbers import exp
from inference.engine.kernels.vectors import LANES


@njit(nogil=True, cache=True)
def summarise(logits: Any, found: Any) -> None:
    """Write (best token, its logit, the second-best logit, Σ exp(logit - best), count of NaN)."""
    best, second, token, odd = np.float32(-np.inf), np.float32(-np.inf), 0, 0
    for number in range(len(logits)):
        value = logits[number]
        if value > best:
            best, second, token = value, best, number
        elif value > second:
            second = value
        elif value != value:
            odd += 1
    lanes = np.zeros(LANES, dtype=np.float64)
    whole = len(logits) // LANES
    for block in range(whole):
        for lane in range(LANES):
            lanes[lane] += exp(np.float32(logits[block * LANES + lane] - best))
    total = lanes.sum()
    for number in range(whole * LANES, len(logits)):
        total += exp(np.float32(logits[number] - best))
    found[0], found[1], found[2], found[3], found[4] = token, best, second, total, odd
