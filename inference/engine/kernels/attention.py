"""Causal attention over keys and values that lie in blocks of sixteen tokens."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from inference.engine.kernels.numbers import exp
from inference.engine.kernels.vectors import LANES, scores_of_block, weighted_values

_weigh_1, _weigh_2, _weigh_4 = weighted_values(1), weighted_values(2), weighted_values(4)
_NEVER: Final = np.float32(-np.inf)
_NOTHING: Final = np.float32(0)


@njit(nogil=True, cache=True)
def attend(
    q: Any, keys: Any, values: Any, table: Any, plane: int, plane_step: int, width: int,
    position: int, scale: float, scores: Any, out: Any, out_at: int, wanted: int,
) -> None:  # fmt: skip
    """Write to `out` what the token at `position` sees of itself and the tokens before it.

    `q` (width) is the query, a multiple of 16 wide; `table` names the blocks of the sequence in
    order. Block b of this layer and head begins at plane + b · plane_step in `keys`, as
    (width, 16), and in `values`, as (16, width). `scores` has room for every block; the first
    `wanted` numbers of the result are written.
    """
    blocks = position // LANES + 1
    highest = _NEVER
    for block in range(blocks):
        at = block * LANES
        scores_of_block(q, 0, keys, plane + table[block] * plane_step, width, scores, at)
        for lane in range(LANES):
            score = np.float32(scores[at + lane] * scale)
            # Lanes beyond the token hold what earlier sequences left.
            scores[at + lane] = score if at + lane <= position else _NEVER
        for lane in range(LANES):
            highest = max(highest, scores[at + lane])
    total = _softmax(scores, blocks, highest)
    seen = scores[blocks * LANES :]
    for number in range(width):
        seen[number] = _NOTHING
    for block in range(blocks):
        count = min(LANES, position + 1 - block * LANES)
        at = plane + table[block] * plane_step
        _add_values(scores, block * LANES, values, at, width, count, seen)
    for number in range(wanted):
        out[out_at + number] = np.float32(seen[number] / total)


@njit(nogil=True, cache=True)
def _softmax(scores: Any, blocks: int, highest: np.float32) -> np.float32:
    """Turn scores into weights; return their sum, taken lane by lane and then pairwise."""
    lanes = np.zeros(LANES, dtype=np.float32)
    for block in range(blocks):
        for lane in range(LANES):
            weight = exp(np.float32(scores[block * LANES + lane] - highest))
            scores[block * LANES + lane] = weight
            lanes[lane] += weight
    half = LANES // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


@njit(nogil=True, cache=True)
def _add_values(
    weights: Any, weights_at: int, values: Any, values_at: int, width: int, count: int, seen: Any
) -> None:
    done = 0
    while width - done >= 4 * LANES:
        _weigh_4(weights, weights_at, values, values_at + done, width, count, seen, done)
        done += 4 * LANES
    while width - done >= 2 * LANES:
        _weigh_2(weights, weights_at, values, values_at + done, width, count, seen, done)
        done += 2 * LANES
    while width - done >= LANES:
        _weigh_1(weights, weights_at, values, values_at + done, width, count, seen, done)
        done += LANES
