"""Vector operations as LLVM writes them: sixteen single-precision lanes, whatever the processor.

Each function here becomes instructions within a compiled kernel. Arrays are float32 unless said
otherwise; an `…_at` is an index into the array's elements as they lie in memory. Nothing checks
bounds: callers do.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from inference.engine.kernels.lanes import F32, I32, LANES, Lanes, spread_constant

# Columns of a weight panel: four vectors, so that six rows of sums fill the registers of AVX-512.
PANEL: Final = 4 * LANES
# Rows of one tile at most.
ROWS: Final = 6

_NOTHING: Final = spread_constant(0)


def tile(rows: int, *, adds: bool) -> Any:
    """Return the kernel of `rows` rows by one panel of 64 columns: y = x · w, or y += x · w.

    tile(x, x_at, x_step, w, w_at, y, y_at, y_step, depth): `w` (float32, or uint16 that holds
    bfloat16) is a panel of `depth` times 64 weights in a row; rows are `x_step` and `y_step`
    numbers apart. Each sum runs over the depth in order, by one fused multiply-add after another.

    Where `x` is bfloat16 too (uint16), the processor's unit for it takes two inputs at a time, at
    twice the rate: the panel lies as (depth / 2, 64, 2), `depth` and steps are even.
    """
    columns = PANEL // LANES

    @intrinsic
    def product(typing, x, x_at, x_step, w, w_at, y, y_at, y_step, depth):
        at = types.intp
        signature = types.void(x, at, at, w, at, y, at, at, at)

        def code(context, builder, _, arguments):
            x_, x_at_, x_step_, w_, w_at_, y_, y_at_, y_step_, depth_ = arguments
            b = Lanes(context, builder)
            narrow, paired = w.dtype == types.uint16, x.dtype == types.uint16
            taken = 2 if paired else 1
            panel = b.pointer(w, w_, w_at_)
            xs = [
                b.pointer(x, x_, builder.add(x_at_, builder.mul(x_step_, b.constant(row))))
                for row in range(rows)
            ]

            def body(k, sums):
                first = builder.mul(k, b.constant(taken * PANEL))
                places = [
                    builder.gep(panel, [builder.add(first, b.constant(taken * c * LANES))])
                    for c in range(columns)
                ]
                weights = [
                    b.load_pairs(place) if paired else b.load_weights(place, narrow)
                    for place in places
                ]
                number_at = builder.mul(k, b.constant(taken))
                found = []
                for row in range(rows):
                    place = builder.gep(xs[row], [number_at])
                    number = b.spread_pair(place) if paired else b.spread(builder.load(place))
                    add = b.dot if paired else b.fma
                    for c in range(columns):
                        found.append(add(number, weights[c], sums[row * columns + c]))
                return found

            steps = builder.sdiv(depth_, b.constant(taken))
            sums = b.loop(steps, [_NOTHING] * (rows * columns), body)
            for row in range(rows):
                start = builder.add(y_at_, builder.mul(y_step_, b.constant(row)))
                for c in range(columns):
                    place = b.pointer(y, y_, builder.add(start, b.constant(c * LANES)))
                    value = sums[row * columns + c]
                    if adds:
                        value = builder.fadd(b.load(place), value)
                    b.store(value, place)
            return context.get_dummy_value()

        return signature, code

    return product


@intrinsic
def scores_of_block(typing, q, k, k_at, width, scale, s, s_at):
    """Write s[0:16] = scale · the dot products of a query with the sixteen keys of one block.

    `k` lies as (width, 16): number by number, the keys of all sixteen tokens; it may be bfloat16,
    like the values of `weighted_values`. `width` is a multiple of 16. Four partial sums, over every fourth number, are added pairwise.
    """
    at = types.intp
    signature = types.void(q, k, at, at, types.float32, s, at)

    def code(context, builder, _, arguments):
        q_, k_, k_at_, width_, scale_, s_, s_at_ = arguments
        b = Lanes(context, builder)
        query, keys = b.pointer(q, q_, b.constant(0)), b.pointer(k, k_, k_at_)
        narrow = k.dtype == types.uint16

        def body(quarter, sums):
            found = []
            for part in range(4):
                number = builder.add(builder.mul(quarter, b.constant(4)), b.constant(part))
                place = builder.gep(keys, [builder.mul(number, b.constant(LANES))])
                key = b.load_either(place, narrow, 2 if narrow else 4)
                value = b.spread(builder.load(builder.gep(query, [number])))
                found.append(b.fma(value, key, sums[part]))
            return found

        sums = b.loop(builder.sdiv(width_, b.constant(4)), [_NOTHING] * 4, body)
        total = builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))
        b.store(builder.fmul(total, b.spread(scale_)), b.pointer(s, s_, s_at_))
        return context.get_dummy_value()

    return signature, code


def weighted_values(columns: int) -> Any:
    """Return the kernel that adds weighted values of one block to an output.

    weighted_values(p, p_at, v, v_at, step, count, o, o_at): o[0:16·columns] += Σ p[t] · v[t], token
    by token in order; the values of a token lie `step` numbers after those of the one before.
    """

    @intrinsic
    def weigh(typing, p, p_at, v, v_at, step, count, o, o_at):
        at = types.intp
        signature = types.void(p, at, v, at, at, at, o, at)

        def code(context, builder, _, arguments):
            p_, p_at_, v_, v_at_, step_, count_, o_, o_at_ = arguments
            b = Lanes(context, builder)
            weights, values = b.pointer(p, p_, p_at_), b.pointer(v, v_, v_at_)
            narrow = v.dtype == types.uint16
            places = [
                b.pointer(o, o_, builder.add(o_at_, b.constant(c * LANES))) for c in range(columns)
            ]

            def body(token, sums):
                weight = b.spread(builder.load(builder.gep(weights, [token])))
                start = builder.mul(token, step_)
                found = []
                for c in range(columns):
                    place = builder.gep(values, [builder.add(start, b.constant(c * LANES))])
                    value = b.load_either(place, narrow, 2 if narrow else 4)
                    found.append(b.fma(weight, value, sums[c]))
                return found

            sums = b.loop(count_, [b.load(place) for place in places], body)
            for total, place in zip(sums, places, strict=True):
                b.store(total, place)
            return context.get_dummy_value()

        return signature, code

    return weigh


@intrinsic
def sum_of_squares(typing, x, x_at, vectors):
    """Return the sum of the squares of 16 · `vectors` numbers: lane by lane, then pairwise."""
    signature = types.float32(x, types.intp, types.intp)

    def code(context, builder, _, arguments):
        x_, x_at_, vectors_ = arguments
        b = Lanes(context, builder)
        numbers = b.pointer(x, x_, x_at_)

        def body(index, sums):
            value = b.load(builder.gep(numbers, [builder.mul(index, b.constant(LANES))]))
            return [b.fma(value, value, sums[0])]

        return b.pairwise(b.loop(vectors_, [_NOTHING], body)[0], builder.fadd)

    return signature, code


@intrinsic
def widen(typing, weight):
    """Return a weight as float32: one already, or bfloat16 in a uint16, its upper half."""

    def code(context, builder, _, arguments):
        if weight == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], I32), ir.Constant(I32, 16))
        return builder.bitcast(bits, F32)

    return types.float32(weight), code


@intrinsic
def put(typing, y, at, number):
    """Write y[at] = number: rounded to bfloat16, to nearest and ties to even, where `y` is uint16."""

    def code(context, builder, _, arguments):
        y_, at_, number_ = arguments
        b = Lanes(context, builder)
        builder.store(
            b.narrow(number_) if y.dtype == types.uint16 else number_, b.pointer(y, y_, at_)
        )
        return context.get_dummy_value()

    return types.void(y, types.intp, types.float32), code
