"""Causal attention over keys and values that lie in blocks of sixteen tokens."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit

from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.reductions import divide, highest_of, weigh
from inference.engine.kernels.vectors import put, scores_of_block, weighted_values

# Heads that look at the same keys and values together at most: what was loaded serves all of them,
# and their sums fill half the registers of AVX-512.
HEADS: Final = 4

_score_1, _score_2, _score_3, _score_4 = (scores_of_block(heads) for heads in (1, 2, 3, 4))
_weigh_1, _weigh_2, _weigh_3, _weigh_4 = (weighted_values(heads, 1) for heads in (1, 2, 3, 4))
_broad_1, _broad_2, _broad_3, _broad_4 = (weighted_values(heads, 4) for heads in (1, 2, 3, 4))
_NEVER: Final = np.float32(-np.inf)
_NOTHING: Final = np.float32(0)


@njit(nogil=True, cache=True)
def attend(
    heads: int, q: Any, keys: Any, values: Any, table: Any, plane: int, plane_step: int, width: int,
    position: int, scale: float, scores: Any, out: Any, out_at: int, wanted: int,
) -> None:  # fmt: skip
    """Write to `out` what the token at `position` sees of itself and the tokens before it.

    `q` (heads, width) are the queries of one to four heads, a multiple of 16 wide; `table` names
    the blocks of the sequence in order. Block b of this layer and group begins at
    plane + b · plane_step in `keys`, as (width, 16), and in `values`, as (16, width). `scores` has
    room for every block and `width` more for each head; the first `wanted` numbers of each head's
    result are written. Keys, values and `out` may be bfloat16 in uint16.
    """
    blocks = position // LANES + 1
    seen = blocks * LANES
    step = seen + width
    for block in range(blocks):
        at = plane + table[block] * plane_step
        later = plane + table[min(block + 1, blocks - 1)] * plane_step
        _score(heads, q, keys, at, width, scale, scores, block * LANES, step, values, later)
    for head in range(heads):
        # Lanes beyond the token hold what earlier sequences left.
        for beyond in range(head * step + position + 1, head * step + seen):
            scores[beyond] = _NEVER
        for number in range(head * step + seen, head * step + step):
            scores[number] = _NOTHING
        total = weigh(scores, head * step, blocks, highest_of(scores, head * step, blocks))
        # The query has done its part: what its weights add up to takes its place.
        q[head * width] = total
    for block in range(blocks):
        count = min(LANES, position + 1 - block * LANES)
        at = plane + table[block] * plane_step
        _add_values(heads, scores, block * LANES, step, values, at, width, count, seen)
    for head in range(heads):
        at, to, total = head * step + seen, out_at + head * wanted, q[head * width]
        vectors = wanted // LANES
        divide(scores, at, total, out, to, vectors)
        for number in range(vectors * LANES, wanted):
            put(out, to + number, np.float32(scores[at + number] / total))


@njit(nogil=True, cache=True)
def _score(
    heads: int, q: Any, keys: Any, at: int, width: int, scale: float, scores: Any, to: int,
    step: int, values: Any, later: int,
) -> None:  # fmt: skip
    if heads == 1:
        _score_1(q, keys, at, width, scale, scores, to, step, values, later)
    elif heads == 2:
        _score_2(q, keys, at, width, scale, scores, to, step, values, later)
    elif heads == 3:
        _score_3(q, keys, at, width, scale, scores, to, step, values, later)
    else:
        _score_4(q, keys, at, width, scale, scores, to, step, values, later)


@njit(nogil=True, cache=True)
def _add_values(
    heads: int, scores: Any, at: int, step: int, values: Any, values_at: int, width: int,
    count: int, seen: int,
) -> None:  # fmt: skip
    done = 0
    while width - done >= 4 * LANES:
        where, to = values_at + done, seen + done
        if heads == 1:
            _broad_1(scores, at, step, values, where, width, count, scores, to)
        elif heads == 2:
            _broad_2(scores, at, step, values, where, width, count, scores, to)
        elif heads == 3:
            _broad_3(scores, at, step, values, where, width, count, scores, to)
        else:
            _broad_4(scores, at, step, values, where, width, count, scores, to)
        done += 4 * LANES
    while width - done >= LANES:
        where, to = values_at + done, seen + done
        if heads == 1:
            _weigh_1(scores, at, step, values, where, width, count, scores, to)
        elif heads == 2:
            _weigh_2(scores, at, step, values, where, width, count, scores, to)
        elif heads == 3:
            _weigh_3(scores, at, step, values, where, width, count, scores, to)
        else:
            _weigh_4(scores, at, step, values, where, width, count, scores, to)
        done += LANES
