"""Causal attention over keys and values that lie in blocks of sixteen tokens."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.reductions import highest_of, weigh
from inference.engine.kernels.vectors import put, scores_of_block, weighted_values

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
    `wanted` numbers of the result are written. Keys, values and `out` may be bfloat16 in uint16.
    """
    blocks = position // LANES + 1
    for block in range(blocks):
        at = plane + table[block] * plane_step
        scores_of_block(q, keys, at, width, scale, scores, block * LANES)
    # Lanes beyond the token hold what earlier sequences left.
    for beyond in range(position + 1, blocks * LANES):
        scores[beyond] = _NEVER
    total = weigh(scores, 0, blocks, highest_of(scores, 0, blocks))
    seen = scores[blocks * LANES :]
    for number in range(width):
        seen[number] = _NOTHING
    for block in range(blocks):
        count = min(LANES, position + 1 - block * LANES)
        at = plane + table[block] * plane_step
        _add_values(scores, block * LANES, values, at, width, count, seen)
    for number in range(wanted):
        put(out, out_at + number, np.float32(seen[number] / total))


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
