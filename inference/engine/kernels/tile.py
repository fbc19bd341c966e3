"""The tile: a few rows by one panel of packed weights, which is what matrix products are made of.

See `vectors` for how kernels are written.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from inference.engine.kernels.lanes import LANES, VECTOR, Lanes, spread_constant
from inference.engine.kernels.unit import has_wide_registers
from inference.engine.kernels.vectors import AT_ONCE, PANEL

# Few rows wait for memory. Where registers are narrow, strips of narrow weights then take turns of
# so many steps, so that memory is read in its order: 1.4 times as fast with four rows. Wide weights
# come no sooner for it.
_DEEP: Final = 64
_FEW: Final = 4
# Bytes that memory gives at a time.
_LINE: Final = 64

_NOTHING: Final = spread_constant(0)


def tile(rows: int, *, adds: bool) -> Any:
    """Return the kernel of `rows` rows by a panel of 64 columns: y = x · w, or y += x · w.

    tile(x, x_at, x_step, w, w_at, y, y_at, y_step, depth, ahead): `w` (float32, or uint16 that has
    bfloat16) is a panel of `depth` times 64 weights in a row; rows are `x_step` and `y_step`
    numbers apart. Each sum runs over the depth in order, by one fused multiply-add after another.

    Where `x` is bfloat16 too (uint16), the processor's unit for it takes two inputs at a time, at
    twice the rate: the panel lies as (depth / 2, 64, 2), `depth` and steps are even.

    Meanwhile half as much as one panel is fetched from `ahead` on in `w`, so that memory works
    while the unit does. A tile that takes turns fetches as much as one panel: from `ahead` on, or
    where that is the panel itself, what it reads in the next turn.
    """
    columns = PANEL // LANES if has_wide_registers() else AT_ONCE.get(rows, 1)
    strips = PANEL // LANES // columns

    @intrinsic
    def product(typing, x, x_at, x_step, w, w_at, y, y_at, y_step, depth, ahead):
        at = types.intp
        signature = types.void(x, at, at, w, at, y, at, at, at, at)

        def code(context, builder, _, arguments):
            x_, x_at_, x_step_, w_, w_at_, y_, y_at_, y_step_, depth_, ahead_ = arguments
            b = Lanes(context, builder)
            narrow, paired = w.dtype == types.uint16, x.dtype == types.uint16
            taken = 2 if paired else 1
            panel, later = b.pointer(w, w_, w_at_), b.pointer(w, w_, ahead_)
            xs = [b.pointer(x, x_, b.place(x_at_, row, x_step_)) for row in range(rows)]
            steps = builder.sdiv(depth_, b.constant(taken))
            deep = narrow and strips > 1 and rows <= _FEW
            fetch = _fetch_in_turns if deep else _fetch_half
            if deep:
                alone = builder.icmp_signed("==", ahead_, w_at_)
                later = builder.select(alone, b.ir.gep(panel, [b.constant(_DEEP * PANEL)]), later)

            def body(strip, k, sums):
                fetch(b, later, narrow, k, strip, strips, taken, steps)
                places = _places(b, panel, k, taken, strip * columns, columns)
                load = b.load_pairs if paired else partial(b.load_weights, narrow=narrow)
                weights = [load(place) for place in places]
                return _add_products(b, xs, k, taken, weights, sums)

            def leave(strip, sums):
                first = builder.add(y_at_, b.constant(strip * columns * LANES))
                for row in range(rows):
                    place = b.pointer(y, y_, b.place(first, row, y_step_))
                    _leave(b, sums[row * columns : (row + 1) * columns], place, adds)

            do = _take_turns if deep else _do_each
            do(b, strips, [_NOTHING] * (rows * columns), steps, body, leave)
            return context.get_dummy_value()

        return signature, code

    return product


def _do_each(b, strips, start, steps, body, leave):
    """Run `body(strip, k, sums)` for `steps` k and each strip, then `leave(strip, sums)`.

    Sums begin as `start`.
    """
    for strip in range(strips):
        leave(strip, b.loop(steps, start, partial(body, strip)))


def _take_turns(b, strips, start, steps, body, leave):
    """Do as `_do_each`, but in turns of `_DEEP` steps: between them sums are in memory."""
    width = len(start)
    room = cgutils.alloca_once(b.ir, VECTOR, size=strips * width)
    places = [
        [b.ir.gep(room, [b.constant(strip * width + n)]) for n in range(width)]
        for strip in range(strips)
    ]

    def store(sums, mine):
        for value, place in zip(sums, mine, strict=True):
            b.store(value, place)

    def turn(number, _):
        first, most = b.ir.mul(number, b.constant(_DEEP)), b.constant(_DEEP)
        left = b.ir.sub(steps, first)
        count = b.ir.select(b.ir.icmp_signed("<", left, most), left, most)
        for strip, mine in enumerate(places):

            def step(index, sums, strip=strip):
                return body(strip, b.ir.add(first, index), sums)

            store(b.loop(count, [b.load(place) for place in mine], step), mine)
        return []

    for mine in places:
        store(start, mine)
    turns = b.ir.sdiv(b.ir.add(steps, b.constant(_DEEP - 1)), b.constant(_DEEP))
    b.loop(turns, [], turn)
    for strip, mine in enumerate(places):
        leave(strip, [b.load(place) for place in mine])


def _fetch_half(b, later, narrow, k, strip, strips, taken, steps):
    """Fetch a step's share of half a panel: strips follow one another."""
    mine = taken * PANEL // 2 // strips
    place = b.place(b.ir.mul(k, b.constant(mine)), strip * mine, steps)
    b.prefetch(b.ir.gep(later, [place]), max(1, mine * (2 if narrow else 4) // _LINE))


def _fetch_in_turns(b, later, narrow, k, strip, strips, taken, steps):
    """Fetch a step's share of a panel: strips are at the same place."""
    mine = PANEL // strips
    place = b.place(b.ir.mul(k, b.constant(PANEL)), strip, b.constant(mine))
    b.prefetch(b.ir.gep(later, [place]), max(1, mine * (2 if narrow else 4) // _LINE))


def _add_products(b, xs, k, taken, weights, sums):
    """Return the sums with `taken` inputs more: for each row those of every vector of weights."""
    found, columns = [], len(weights)
    for row, x in enumerate(xs):
        place = b.ir.gep(x, [b.ir.mul(k, b.constant(taken))])
        number = b.spread_pair(place) if taken == 2 else b.spread(b.ir.load(place))
        add = b.dot if taken == 2 else b.fma
        mine = sums[row * columns : (row + 1) * columns]
        found += [add(number, w, s) for w, s in zip(weights, mine, strict=True)]
    return found


def _leave(b, sums, start, adds):
    """Write vectors to `start` and behind it, or add them to what is there."""
    for number, value in enumerate(sums):
        place = b.ir.gep(start, [b.constant(number * LANES)])
        b.store(b.ir.fadd(b.load(place), value) if adds else value, place)


def _places(b, panel, k, taken, first, columns):
    """Return where `columns` vectors of a panel's `k`-th row lie, from the `first` on.

    `taken` inputs make a row.
    """
    row = b.ir.mul(k, b.constant(taken * PANEL))
    return [
        b.ir.gep(panel, [b.ir.add(row, b.constant(taken * column * LANES))])
        for column in range(first, first + columns)
    ]
