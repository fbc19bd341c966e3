"""Vector operations as LLVM writes them: sixteen single-precision lanes, whatever the processor.

Each function here becomes instructions within a compiled kernel. Arrays are float32 unless said
otherwise; an `…_at` is an index into the array's elements as they lie in memory. Nothing checks
bounds: callers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES: Final = 16
# Columns of a weight panel: four vectors, so that six rows of sums fill the registers of AVX-512.
PANEL: Final = 4 * LANES
# Rows of one tile at most.
ROWS: Final = 6

_F32: Final = ir.FloatType()
_I16: Final = ir.IntType(16)
_I32: Final = ir.IntType(32)
_I64: Final = ir.IntType(64)
_VECTOR: Final = ir.VectorType(_F32, LANES)
_WIDE: Final = ir.VectorType(_I32, LANES)
_ZERO: Final = ir.Constant(_VECTOR, [0.0] * LANES)
_LINE: Final = 64


class _Builder:
    """Writes vector code at the place where an `IRBuilder` stands."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context = context
        self.ir = builder

    def pointer(self, kind: types.Array, array: Any, at: Any) -> Any:
        """Return the address of element `at` of an array."""
        made = self._context.make_array(kind)(self._context, self.ir, array)
        return self.ir.gep(made.data, [at])

    def constant(self, value: int) -> Any:
        return ir.Constant(_I64, value)

    def load(self, pointer: Any, align: int = 4) -> Any:
        """Load sixteen numbers."""
        value = self.ir.load(self.ir.bitcast(pointer, _VECTOR.as_pointer()))
        value.align = align
        return value

    def load_weights(self, pointer: Any, narrow: bool) -> Any:
        """Load sixteen aligned weights; bfloat16 is the upper half of a float32."""
        if not narrow:
            return self.load(pointer, _LINE)
        halves = self.ir.load(self.ir.bitcast(pointer, ir.VectorType(_I16, LANES).as_pointer()))
        halves.align = _LINE // 2
        bits = self.ir.shl(self.ir.zext(halves, _WIDE), ir.Constant(_WIDE, [16] * LANES))
        return self.ir.bitcast(bits, _VECTOR)

    def store(self, value: Any, pointer: Any) -> None:
        made = self.ir.store(value, self.ir.bitcast(pointer, _VECTOR.as_pointer()))
        made.align = 4

    def spread(self, scalar: Any) -> Any:
        """Put one number into every lane."""
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        one = self.ir.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.ir.shuffle_vector(one, undefined, ir.Constant(_WIDE, [0] * LANES))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        kind = c.type
        name = "llvm.fma.f32" if kind == _F32 else f"llvm.fma.v{LANES}f32"
        function = cgutils.get_or_insert_function(
            self.ir.module, ir.FunctionType(kind, [kind] * 3), name
        )
        return self.ir.call(function, [a, b, c])

    def loop(
        self, count: Any, starts: list[Any], body: Callable[[Any, list[Any]], list[Any]]
    ) -> Any:
        """Run `body(index, sums)` `count` times, carrying sums in registers; return them."""
        before = self.ir.block
        head = self.ir.append_basic_block("head")
        inside = self.ir.append_basic_block("inside")
        after = self.ir.append_basic_block("after")
        self.ir.branch(head)
        self.ir.position_at_end(head)
        index = self.ir.phi(_I64)
        index.add_incoming(self.constant(0), before)
        sums = []
        for start in starts:
            carried = self.ir.phi(start.type)
            carried.add_incoming(start, before)
            sums.append(carried)
        self.ir.cbranch(self.ir.icmp_signed("<", index, count), inside, after)
        self.ir.position_at_end(inside)
        results = body(index, sums)
        index.add_incoming(self.ir.add(index, self.constant(1)), self.ir.block)
        for carried, result in zip(sums, results, strict=True):
            carried.add_incoming(result, self.ir.block)
        self.ir.branch(head)
        self.ir.position_at_end(after)
        return sums


def tile(rows: int, *, adds: bool) -> Any:
    """Return the kernel of `rows` rows by one panel of 64 columns: y = x · w, or y += x · w.

    tile(x, x_at, x_step, w, w_at, y, y_at, y_step, depth): `w` (float32, or uint16 that holds
    bfloat16) is a panel of `depth` times 64 weights in a row; rows are `x_step` and `y_step`
    numbers apart. Each sum runs over the depth in order, by one fused multiply-add after another.
    """
    columns = PANEL // LANES

    @intrinsic
    def product(typing, x, x_at, x_step, w, w_at, y, y_at, y_step, depth):
        at = types.intp
        signature = types.void(x, at, at, w, at, y, at, at, at)

        def code(context, builder, _, arguments):
            x_, x_at_, x_step_, w_, w_at_, y_, y_at_, y_step_, depth_ = arguments
            b = _Builder(context, builder)
            narrow = w.dtype == types.uint16
            panel = b.pointer(w, w_, w_at_)
            xs = [
                b.pointer(x, x_, builder.add(x_at_, builder.mul(x_step_, b.constant(row))))
                for row in range(rows)
            ]

            def body(k, sums):
                first = builder.mul(k, b.constant(PANEL))
                weights = [
                    b.load_weights(
                        builder.gep(panel, [builder.add(first, b.constant(c * LANES))]), narrow
                    )
                    for c in range(columns)
                ]
                found = []
                for row in range(rows):
                    number = b.spread(builder.load(builder.gep(xs[row], [k])))
                    for c in range(columns):
                        found.append(b.fma(number, weights[c], sums[row * columns + c]))
                return found

            sums = b.loop(depth_, [_ZERO] * (rows * columns), body)
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
def scores_of_block(typing, q, q_at, k, k_at, width, s, s_at):
    """Write s[0:16] = the dot products of a query with the sixteen keys of one block.

    `k` lies as (width, 16): number by number, the keys of all sixteen tokens. `width` is a
    multiple of 16. Four partial sums, over every fourth number, are added pairwise.
    """
    at = types.intp
    signature = types.void(q, at, k, at, at, s, at)

    def code(context, builder, _, arguments):
        q_, q_at_, k_, k_at_, width_, s_, s_at_ = arguments
        b = _Builder(context, builder)
        query, keys = b.pointer(q, q_, q_at_), b.pointer(k, k_, k_at_)

        def body(quarter, sums):
            found = []
            for part in range(4):
                number = builder.add(builder.mul(quarter, b.constant(4)), b.constant(part))
                key = b.load(builder.gep(keys, [builder.mul(number, b.constant(LANES))]))
                value = b.spread(builder.load(builder.gep(query, [number])))
                found.append(b.fma(value, key, sums[part]))
            return found

        sums = b.loop(builder.sdiv(width_, b.constant(4)), [_ZERO] * 4, body)
        total = builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))
        b.store(total, b.pointer(s, s_, s_at_))
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
            b = _Builder(context, builder)
            weights, values = b.pointer(p, p_, p_at_), b.pointer(v, v_, v_at_)
            places = [
                b.pointer(o, o_, builder.add(o_at_, b.constant(c * LANES))) for c in range(columns)
            ]

            def body(token, sums):
                weight = b.spread(builder.load(builder.gep(weights, [token])))
                start = builder.mul(token, step_)
                return [
                    b.fma(
                        weight,
                        b.load(builder.gep(values, [builder.add(start, b.constant(c * LANES))])),
                        sums[c],
                    )
                    for c in range(columns)
                ]

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
        b = _Builder(context, builder)
        numbers = b.pointer(x, x_, x_at_)

        def body(index, sums):
            value = b.load(builder.gep(numbers, [builder.mul(index, b.constant(LANES))]))
            return [b.fma(value, value, sums[0])]

        total = b.loop(vectors_, [_ZERO], body)[0]
        lanes = [builder.extract_element(total, ir.Constant(_I32, lane)) for lane in range(LANES)]
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [builder.fadd(lanes[i], lanes[i + half]) for i in range(half)]
        return lanes[0]

    return signature, code


@intrinsic
def fma(typing, a, b, c):
    """Return a · b + c, rounded once."""
    one = types.float32

    def code(context, builder, _, arguments):
        return _Builder(context, builder).fma(*arguments)

    return one(one, one, one), code


@intrinsic
def float_of_bits(typing, bits):
    """Return the float32 whose bits an int32 holds."""

    def code(context, builder, _, arguments):
        return builder.bitcast(arguments[0], _F32)

    return types.float32(types.int32), code


@intrinsic
def bits_of_float(typing, number):
    """Return the bits of a float32 as an int32."""

    def code(context, builder, _, arguments):
        return builder.bitcast(arguments[0], _I32)

    return types.int32(types.float32), code


@intrinsic
def widen(typing, weight):
    """Return a weight as float32: one already, or bfloat16 in a uint16, its upper half."""

    def code(context, builder, _, arguments):
        if weight == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], _I32), ir.Constant(_I32, 16))
        return builder.bitcast(bits, _F32)

    return types.float32(weight), code
