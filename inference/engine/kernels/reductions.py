"""Vector functions of rows of numbers: softmax, gates, and what stands out among logits."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from inference.engine.kernels.lanes import I32, I64, LANES, WHOLE, Lanes, spread_constant

_NOTHING = spread_constant(0)
_NEVER = spread_constant(float("-inf"))


@intrinsic
def highest_of(typing, x, x_at, vectors):
    """Return the highest of 16 · `vectors` numbers; NaN is passed over."""
    signature = types.float32(x, types.intp, types.intp)

    def code(context, builder, _, arguments):
        x_, x_at_, vectors_ = arguments
        b = Lanes(context, builder)
        numbers = b.pointer(x, x_, x_at_)

        def body(index, found):
            value = b.load(builder.gep(numbers, [builder.mul(index, b.constant(LANES))]))
            return [b.higher(value, found[0])]

        return b.pairwise(b.loop(vectors_, [_NEVER], body)[0], b.higher)

    return signature, code


@intrinsic
def sum_of_exps(typing, x, x_at, vectors, highest):
    """Return Σ exp(x - highest) over 16 · `vectors` numbers: lane by lane, then pairwise."""
    signature = types.float32(x, types.intp, types.intp, types.float32)

    def code(context, builder, _, arguments):
        x_, x_at_, vectors_, highest_ = arguments
        b = Lanes(context, builder)
        numbers, top = b.pointer(x, x_, x_at_), b.spread(highest_)

        def body(index, sums):
            value = b.load(builder.gep(numbers, [builder.mul(index, b.constant(LANES))]))
            return [builder.fadd(sums[0], b.exp(builder.fsub(value, top)))]

        return b.pairwise(b.loop(vectors_, [_NOTHING], body)[0], builder.fadd)

    return signature, code


@intrinsic
def weigh(typing, x, x_at, vectors, highest):
    """Replace 16 · `vectors` numbers by exp(x - highest); return their sum, as `sum_of_exps`."""
    signature = types.float32(x, types.intp, types.intp, types.float32)

    def code(context, builder, _, arguments):
        x_, x_at_, vectors_, highest_ = arguments
        b = Lanes(context, builder)
        numbers, top = b.pointer(x, x_, x_at_), b.spread(highest_)

        def body(index, sums):
            place = builder.gep(numbers, [builder.mul(index, b.constant(LANES))])
            weight = b.exp(builder.fsub(b.load(place), top))
            b.store(weight, place)
            return [builder.fadd(sums[0], weight)]

        return b.pairwise(b.loop(vectors_, [_NOTHING], body)[0], builder.fadd)

    return signature, code


@intrinsic
def gate(typing, x, gate_at, up_at, y, y_at, vectors):
    """Write y = silu(gate) · up for 16 · `vectors` numbers; silu(g) is g / (1 + exp(-g)).

    Where `y` is uint16 they are rounded to bfloat16.
    """
    at = types.intp
    signature = types.void(x, at, at, y, at, at)

    def code(context, builder, _, arguments):
        x_, gate_at_, up_at_, y_, y_at_, vectors_ = arguments
        b = Lanes(context, builder)
        gates, ups = b.pointer(x, x_, gate_at_), b.pointer(x, x_, up_at_)
        places = b.pointer(y, y_, y_at_)
        one = spread_constant(1)

        def body(index, _):
            at = builder.mul(index, b.constant(LANES))
            value, up = b.load(builder.gep(gates, [at])), b.load(builder.gep(ups, [at]))
            below = builder.fadd(one, b.exp(builder.fsub(_NOTHING, value)))
            made = builder.fmul(builder.fdiv(value, below), up)
            b.store_either(made, builder.gep(places, [at]), y.dtype == types.uint16)
            return []

        b.loop(vectors_, [], body)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def divide(typing, x, x_at, by, y, y_at, vectors):
    """Write y = x / by for 16 · `vectors` numbers, rounded to bfloat16 where `y` is uint16."""
    signature = types.void(x, types.intp, types.float32, y, types.intp, types.intp)

    def code(context, builder, _, arguments):
        x_, x_at_, by_, y_, y_at_, vectors_ = arguments
        b = Lanes(context, builder)
        numbers, places, divisor = b.pointer(x, x_, x_at_), b.pointer(y, y_, y_at_), b.spread(by_)

        def body(index, _):
            at = builder.mul(index, b.constant(LANES))
            made = builder.fdiv(b.load(builder.gep(numbers, [at])), divisor)
            b.store_either(made, builder.gep(places, [at]), y.dtype == types.uint16)
            return []

        b.loop(vectors_, [], body)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def peaks_of_lanes(typing, x, x_at, vectors, best, second, places, odd):
    """Write for each lane of 16 · `vectors` numbers its best, second-best, and where its best is.

    `best` and `second` are float32 arrays of 16, `places` and `odd` int32 ones: the first vector
    in which the best stands, and other than zero where a number is NaN.
    """
    at = types.intp
    signature = types.void(x, at, at, best, second, places, odd)

    def code(context, builder, _, arguments):
        x_, x_at_, vectors_ = arguments[:3]
        b = Lanes(context, builder)
        numbers = b.pointer(x, x_, x_at_)

        def body(index, found):
            value = b.load(builder.gep(numbers, [builder.mul(index, b.constant(LANES))]))
            highest, runner_up, where, odd_ = found
            above = builder.fcmp_ordered(">", value, highest)
            here = _spread_whole(builder, builder.trunc(index, I32))
            strange = builder.zext(builder.fcmp_unordered("uno", value, value), WHOLE)
            return [
                builder.select(above, value, highest),
                builder.select(above, highest, b.higher(value, runner_up)),
                builder.select(above, here, where),
                builder.or_(odd_, strange),
            ]

        zero = b.whole(0)
        found = b.loop(vectors_, [_NEVER, _NEVER, zero, zero], body)
        kinds = (best, second, places, odd)
        for kind, array, vector in zip(kinds, arguments[3:], found, strict=True):
            pointer = b.pointer(kind, array, ir.Constant(I64, 0))
            made = builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()))
            made.align = 4
        return context.get_dummy_value()

    return signature, code


def _spread_whole(builder, number):
    undefined = ir.Constant(WHOLE, ir.Undefined)
    one = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(WHOLE, [0] * LANES))
