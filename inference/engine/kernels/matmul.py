"""Matrix products of a few rows with packed weights, shared between threads."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.reductions import gate
from inference.engine.kernels.tile import tile
from inference.engine.kernels.vectors import PANEL, ROWS

_set_1, _set_2, _set_3 = tile(1, adds=False), tile(2, adds=False), tile(3, adds=False)
_set_4, _set_5, _set_6 = tile(4, adds=False), tile(5, adds=False), tile(6, adds=False)
_add_1, _add_2, _add_3 = tile(1, adds=True), tile(2, adds=True), tile(3, adds=True)
_add_4, _add_5, _add_6 = tile(4, adds=True), tile(5, adds=True), tile(6, adds=True)


class Matrix(NamedTuple):
    """Rows of numbers in a flat array, `step` apart."""

    numbers: Any
    step: int


class Packed(NamedTuple):
    """A packed matrix within a flat array: `panels` panels of (depth, 64), the first at `at`."""

    weights: Any
    at: int
    panels: int
    depth: int


@njit(nogil=True, cache=True)
def share(total: int, me: int, team: int) -> tuple[int, int]:
    """Return which of `total` units thread `me` of `team` does: from, up to."""
    return total * me // team, total * (me + 1) // team


@njit(nogil=True, cache=True)
def blocks_of(rows: int) -> int:
    """Return into how many tiles of at most six rows `rows` are divided."""
    return (rows + ROWS - 1) // ROWS


@njit(nogil=True, cache=True)
def fetched(size: int, next_: int, block: int, blocks: int) -> int:
    """Return how far behind the beginning of a panel of `size` weights a tile of it fetches.

    Each fetches half of the panel that is the `next_` behind it. One that is gone through only once
    comes no sooner for that: its tile fetches what it has just read, which takes no time.
    """
    return next_ * size + block % 2 * (size // 2) if blocks > 1 else 0


@njit(nogil=True, cache=True)
def multiply(x: Matrix, w: Packed, y: Matrix, rows: int, adds: bool, me: int, team: int) -> None:
    """Do this thread's share of y = x · w, or with `adds` of y += x · w, for `rows` rows."""
    blocks, size = blocks_of(rows), w.depth * PANEL
    first, last = share(w.panels * blocks, me, team)
    for unit in range(first, last):
        panel, block = unit // blocks, unit % blocks
        start, end = share(rows, block, blocks)
        place = start * y.step + panel * PANEL
        at = w.at + panel * size
        ahead = at + fetched(size, 1, block, blocks)
        if adds:
            _add_tile(end - start, x, start, w, at, ahead, y.numbers, place, y.step)
        else:
            _set_tile(end - start, x, start, w, at, ahead, y.numbers, place, y.step)


@njit(nogil=True, cache=True)
def multiply_gated(
    x: Matrix, w: Packed, y: Matrix, rows: int, spare: Any, me: int, team: int
) -> None:
    """Do this thread's share of y = silu(x · gate) · (x · up).

    Panels of `w` come in pairs, a gate and its up; `spare` holds two tiles for this thread.
    """
    blocks, size = blocks_of(rows), w.depth * PANEL
    first, last = share(w.panels // 2 * blocks, me, team)
    for unit in range(first, last):
        pair, block = unit // blocks, unit % blocks
        start, end = share(rows, block, blocks)
        at = w.at + 2 * pair * size
        ahead = at + fetched(size, 2, block, blocks)
        _set_tile(end - start, x, start, w, at, ahead, spare, 0, PANEL)
        ahead += size
        _set_tile(end - start, x, start, w, at + size, ahead, spare, ROWS * PANEL, PANEL)
        for row in range(end - start):
            place = (start + row) * y.step + pair * PANEL
            up = (ROWS + row) * PANEL
            gate(spare, row * PANEL, up, y.numbers, place, PANEL // LANES)


@njit(nogil=True, cache=True)
def _set_tile(
    rows: int, x: Matrix, row: int, w: Packed, w_at: int, ahead: int, y: Any, y_at: int, y_step: int
) -> None:
    """Write y = x · w for one to six rows and one panel; see `tile`."""
    at = row * x.step
    if rows == 6:
        _set_6(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 5:
        _set_5(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 4:
        _set_4(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 3:
        _set_3(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 2:
        _set_2(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    else:
        _set_1(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)


@njit(nogil=True, cache=True)
def _add_tile(
    rows: int, x: Matrix, row: int, w: Packed, w_at: int, ahead: int, y: Any, y_at: int, y_step: int
) -> None:
    """Write y += x · w for one to six rows and one panel."""
    at = row * x.step
    if rows == 6:
        _add_6(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 5:
        _add_5(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 4:
        _add_4(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 3:
        _add_3(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    elif rows == 2:
        _add_2(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
    else:
        _add_1(x.numbers, at, x.step, w.weights, w_at, y, y_at, y_step, w.depth, ahead)
