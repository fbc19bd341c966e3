"""Vector operations as LLVM writes them: sixteen single-precision lanes, whatever the processor.

Each function here becomes instructions within a compiled kernel. Arrays are float32 unless said
otherwise; an `…_at` is an index into the array's elements as they lie in memory. Nothing checks
bounds: callers do.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from inference.engine.kernels.lanes import F32, I32, LANES, Lanes, spread_constant
from inference.engine.kernels.unit import has_wide_registers

# Columns of a weight panel: four vectors, so that six rows of sums fill the registers of AVX-512.
PANEL: Final = 4 * LANES
# Rows of one tile at most.
ROWS: Final = 6
# Vectors whose sums are in registers at a time, by rows or heads: all where registers are wide,
# elsewhere so many that eight registers add in turn, as the unit takes four cycles for each of two.
AT_ONCE: Final = {1: 4, 2: 2, 3: 2}
# Partial sums of a score, see `scores_of_block`.
_PARTS: Final = 4

_NOTHING: Final = spread_constant(0)


def scores_of_block(heads: int) -> Any:
    """Return the kernel that scores the sixteen keys of one block for some heads.

    scores(q, k, k_at, width, scale, s, s_at, s_step, v, next_at): for each head s[0:16] = scale ·
    the dot products of its query with the keys. Queries lie `width` numbers apart, a multiple of
    16, scores `s_step`. `k` lies as (width, 16): number by number, the keys of all sixteen tokens;
    it may be bfloat16, like the values of `weighted_values`. Four partial sums, over every fourth
    number, are added pairwise.

    Meanwhile the values at the same place of `v` are fetched, and the keys at `next_at`: blocks lie
    anywhere, so that the processor does not foresee which comes next.
    """
    at_once = _PARTS if has_wide_registers() else AT_ONCE.get(heads, 1)

    @intrinsic
    def scores(typing, q, k, k_at, width, scale, s, s_at, s_step, v, next_at):
        at = types.intp
        signature = types.void(q, k, at, at, types.float32, s, at, at, v, at)

        def code(context, builder, _, arguments):
            q_, k_, k_at_, width_, scale_, s_, s_at_, s_step_, v_, next_at_ = arguments
            b = Lanes(context, builder)
            queries = [
                b.pointer(q, q_, builder.mul(width_, b.constant(head))) for head in range(heads)
            ]
            keys, narrow = b.pointer(k, k_, k_at_), k.dtype == types.uint16
            later = (b.pointer(v, v_, k_at_), b.pointer(k, k_, next_at_))

            def body(first, quarter, sums):
                start = builder.mul(quarter, b.constant(_PARTS * LANES))
                if not first:
                    for place in later:
                        b.prefetch(builder.gep(place, [start]), 2 if narrow else 4)
                found = list(sums)
                for part in range(at_once):
                    number = b.place(b.constant(first + part), _PARTS, quarter)
                    place = builder.gep(keys, [builder.mul(number, b.constant(LANES))])
                    key = b.load_either(place, narrow, 2 if narrow else 4)
                    for head, query in enumerate(queries):
                        value = b.spread(builder.load(builder.gep(query, [number])))
                        which = at_once * head + part
                        found[which] = b.fma(value, key, sums[which])
                return found

            quarters, parts = builder.sdiv(width_, b.constant(_PARTS)), [[] for _ in queries]
            for first in range(0, _PARTS, at_once):
                starts = [_NOTHING] * (at_once * heads)
                sums = b.loop(quarters, starts, partial(body, first))
                for head in range(heads):
                    parts[head] += sums[at_once * head : at_once * (head + 1)]
            for head, (one, two, three, four) in enumerate(parts):
                total = builder.fadd(builder.fadd(one, two), builder.fadd(three, four))
                place = b.place(s_at_, head, s_step_)
                b.store(builder.fmul(total, b.spread(scale_)), b.pointer(s, s_, place))
            return context.get_dummy_value()

        return signature, code

    return scores


def weighted_values(heads: int, columns: int) -> Any:
    """Return the kernel that adds weighted values of one block to the output of some heads.

    weigh(p, p_at, p_step, v, v_at, step, count, o, o_at): for each head
    o[0:16·columns] += Σ p[t] · v[t], token by token in order; the values of a token lie `step`
    numbers after those of the one before. Weights and outputs of heads lie `p_step` apart.
    """
    at_once = columns if has_wide_registers() else min(columns, AT_ONCE.get(heads, 1))

    @intrinsic
    def weigh(typing, p, p_at, p_step, v, v_at, step, count, o, o_at):
        at = types.intp
        signature = types.void(p, at, at, v, at, at, at, o, at)

        def code(context, builder, _, arguments):
            p_, p_at_, p_step_, v_, v_at_, step_, count_, o_, o_at_ = arguments
            b = Lanes(context, builder)
            values, narrow = b.pointer(v, v_, v_at_), v.dtype == types.uint16
            weights, places = [], []
            for head in range(heads):
                apart = builder.mul(p_step_, b.constant(head))
                weights.append(b.pointer(p, p_, builder.add(p_at_, apart)))
                for c in range(columns):
                    place = builder.add(builder.add(o_at_, apart), b.constant(c * LANES))
                    places.append(b.pointer(o, o_, place))

            def body(strip, token, sums):
                start = builder.mul(token, step_)
                found = list(sums)
                for c in range(at_once):
                    place = builder.add(start, b.constant((strip + c) * LANES))
                    value = b.load_either(builder.gep(values, [place]), narrow, 2 if narrow else 4)
                    for head, numbers in enumerate(weights):
                        weight = b.spread(builder.load(builder.gep(numbers, [token])))
                        which = head * at_once + c
                        found[which] = b.fma(weight, value, sums[which])
                return found

            for strip in range(0, columns, at_once):
                mine = [
                    place
                    for head in range(0, heads * columns, columns)
                    for place in places[head + strip : head + strip + at_once]
                ]
                sums = b.loop(count_, [b.load(place) for place in mine], partial(body, strip))
                for total, place in zip(sums, mine, strict=True):
                    b.store(total, place)
            return context.get_dummy_value()

        return signature, code

    return weigh


@intrinsic
def turn(typing, x, x_at, bias, bias_at, cosines, sines, at, y, y_at, half):
    """Add biases to 2 · `half` numbers and rotate them, the halves as pairs (RoPE).

    Written to `y`; cosines and sines are read from `at` on. What is left of a half beyond whole
    vectors is not touched.
    """
    index = types.intp
    signature = types.void(x, index, bias, index, cosines, sines, index, y, index, index)

    def code(context, builder, _, arguments):
        x_, x_at_, bias_, bias_at_, cosines_, sines_, at_, y_, y_at_, half_ = arguments
        b = Lanes(context, builder)
        numbers, biases = b.pointer(x, x_, x_at_), b.pointer(bias, bias_, bias_at_)
        made = b.pointer(y, y_, y_at_)
        waves = b.pointer(cosines, cosines_, at_), b.pointer(sines, sines_, at_)

        def body(vector, _):
            first = builder.mul(vector, b.constant(LANES))
            second = builder.add(first, half_)
            cosine, sine = (b.load(builder.gep(wave, [first])) for wave in waves)
            left, right = (
                builder.fadd(b.load(builder.gep(numbers, [n])), b.load(builder.gep(biases, [n])))
                for n in (first, second)
            )
            turned = builder.fsub(builder.fmul(left, cosine), builder.fmul(right, sine))
            b.store(turned, builder.gep(made, [first]))
            turned = builder.fadd(builder.fmul(right, cosine), builder.fmul(left, sine))
            b.store(turned, builder.gep(made, [second]))
            return []

        b.loop(builder.sdiv(half_, b.constant(LANES)), [], body)
        return context.get_dummy_value()

    return signature, code


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
    """Write y[at] = number; where `y` is uint16, rounded to bfloat16, see `Lanes.narrow`."""

    def code(context, builder, _, arguments):
        y_, at_, number_ = arguments
        b = Lanes(context, builder)
        builder.store(
            b.narrow(number_) if y.dtype == types.uint16 else number_, b.pointer(y, y_, at_)
        )
        return context.get_dummy_value()

    return types.void(y, types.intp, types.float32), code
