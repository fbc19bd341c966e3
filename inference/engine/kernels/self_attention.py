"""The attention of one layer for all rows of a step: keep keys and values, then look back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from inference.engine.kernels.attention import HEADS, attend
from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.layout import Rows, Sizes, Space, Weights
from inference.engine.kernels.matmul import share
from inference.engine.kernels.vectors import put, turn


class _Place(NamedTuple):
    """Where the blocks of one layer and group lie: block b begins at plane + b · step."""

    layer: int
    group: int
    plane: int
    step: int


@njit(nogil=True, cache=True)
def attend_all(z: Sizes, w: Weights, r: Rows, s: Space, layer: int, me: int, team: int) -> None:
    """Do this thread's share: a unit is one sequence and one group of heads.

    A unit keeps its own keys and values and reads no others, so units need not wait for another.
    """
    size = z.padded_width * LANES
    step = z.groups * size
    blocks = len(s.keys) // (z.layers * step)
    first, last = share((len(r.starts) - 1) * z.groups, me, team)
    for unit in range(first, last):
        sequence, group = unit // z.groups, unit % z.groups
        place = _Place(layer, group, layer * blocks * step + group * size, step)
        rows = range(r.starts[sequence], r.starts[sequence + 1])
        _keep(z, w, r, s, place, r.tables[sequence], rows, s.scores[me])
        _look_back(z, w, r, s, place, r.tables[sequence], rows, s.scores[me])


@njit(nogil=True, cache=True)
def _keep(
    z: Sizes, w: Weights, r: Rows, s: Space, place: _Place, table: Any, rows: Any, turned: Any
) -> None:
    """Put keys, turned by their positions, and values of new tokens into their blocks."""
    key = (z.heads + place.group) * z.width
    value = (z.heads + z.groups + place.group) * z.width
    for row in rows:
        position = r.positions[row]
        block = place.plane + table[position // LANES] * place.step
        slot, at = position % LANES, row * z.qkv_step
        _turn(z, w, place.layer, key, s.qkv, at, position, turned, 0)
        for number in range(z.width):
            put(s.keys, block + slot + number * LANES, turned[number])
        for number in range(z.width):
            numbered = s.qkv[at + value + number] + w.biases[place.layer, value + number]
            put(s.values, block + slot * z.padded_width + number, numbered)


@njit(nogil=True, cache=True)
def _look_back(
    z: Sizes, w: Weights, r: Rows, s: Space, place: _Place, table: Any, rows: Any, scores: Any
) -> None:
    each = z.heads // z.groups
    # The scores' last numbers are the queries': `attend` does not come so far.
    queries = scores[len(scores) - HEADS * z.padded_width :]
    for number in range(HEADS * z.padded_width):
        queries[number] = np.float32(0)
    for row in rows:
        at, position = row * z.qkv_step, r.positions[row]
        for first in range(place.group * each, (place.group + 1) * each, HEADS):
            heads = min(HEADS, (place.group + 1) * each - first)
            for head in range(heads):
                part = (first + head) * z.width
                _turn(z, w, place.layer, part, s.qkv, at, position, queries, head * z.padded_width)
            attend(
                heads, queries, s.keys, s.values, table, place.plane, place.step, z.padded_width,
                position, np.float32(z.scale), scores, s.heads,
                row * z.heads_step + first * z.width, z.width,
            )  # fmt: skip


@njit(nogil=True, cache=True)
def _turn(
    z: Sizes, w: Weights, layer: int, part: int, x: Any, row: int, position: int, y: Any, to: int
) -> None:
    """Rotate a query or key by its position (RoPE, arXiv 2104.09864), its halves as pairs.

    `part` is where it stands in the row of `x` that begins at `row`, and in the biases; numbers are
    written to `y` from `to` on.
    """
    half = z.width // 2
    bias, wave = layer * w.biases.shape[1] + part, position * half
    turn(x, row + part, w.biases, bias, w.cosines, w.sines, wave, y, to, half)
    for number in range(half // LANES * LANES, half):
        cosine, sine = w.cosines[position, number], w.sines[position, number]
        left = x[row + part + number] + w.biases[layer, part + number]
        right = x[row + part + half + number] + w.biases[layer, part + half + number]
        y[to + number] = np.float32(left * cosine) - np.float32(right * sine)
        y[to + half + number] = np.float32(right * cosine) + np.float32(left * sine)
