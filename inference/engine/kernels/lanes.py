"""Writes vector code: sixteen single-precision lanes, whatever the processor has.

What kernels are made of; see `vectors` for what they can call.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES: Final = 16
F32: Final = ir.FloatType()
I32: Final = ir.IntType(32)
I64: Final = ir.IntType(64)
VECTOR: Final = ir.VectorType(F32, LANES)
WHOLE: Final = ir.VectorType(I32, LANES)
_LINE: Final = 64
_HALVES: Final = ir.VectorType(ir.IntType(16), LANES)

_LOG2_E: Final = 1.4426950408889634
# ln 2 in two parts, the first with few enough bits that its multiples are exact (Cody and Waite).
_LN2_HIGH: Final = 0.693359375
_LN2_LOW: Final = -2.12194440e-4
# Adding it rounds a small number to an integer, which then stands in the lowest bits.
_ROUNDER: Final = 12582912.0
_LOWEST: Final = -87.0
_HIGHEST: Final = 88.0
_EXPONENT_BIAS: Final = 127
_MANTISSA_BITS: Final = 23
# 1/n! from 7 down to 0: the error is within two units in the last place on half of ln 2.
_SERIES: Final = (1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)


def spread_constant(number: float) -> Any:
    """Return a vector of one number in every lane."""
    return ir.Constant(VECTOR, [struct.unpack("f", struct.pack("f", number))[0]] * LANES)


class Lanes:
    """Writes vector code at the place where an `IRBuilder` stands."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context = context
        self.ir = builder

    def pointer(self, kind: types.Array, array: Any, at: Any) -> Any:
        """Return the address of element `at` of an array."""
        made = self._context.make_array(kind)(self._context, self.ir, array)
        return self.ir.gep(made.data, [at])

    def constant(self, value: int) -> Any:
        """Return an index."""
        return ir.Constant(I64, value)

    def load(self, pointer: Any, align: int = 4) -> Any:
        """Load sixteen numbers."""
        value = self.ir.load(self.ir.bitcast(pointer, VECTOR.as_pointer()))
        value.align = align
        return value

    def load_weights(self, pointer: Any, narrow: bool) -> Any:
        """Load sixteen aligned weights; bfloat16 is the upper half of a float32."""
        if not narrow:
            return self.load(pointer, _LINE)
        halves = self.ir.load(self.ir.bitcast(pointer, _HALVES.as_pointer()))
        halves.align = _LINE // 2
        bits = self.ir.shl(self.ir.zext(halves, WHOLE), self.whole(16))
        return self.ir.bitcast(bits, VECTOR)

    def store(self, value: Any, pointer: Any) -> None:
        """Store sixteen numbers."""
        made = self.ir.store(value, self.ir.bitcast(pointer, VECTOR.as_pointer()))
        made.align = 4

    def spread(self, scalar: Any) -> Any:
        """Put one number into every lane."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        one = self.ir.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.ir.shuffle_vector(one, undefined, ir.Constant(WHOLE, [0] * LANES))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Return a · b + c, rounded once: of numbers or of vectors."""
        kind = c.type
        name = "llvm.fma.f32" if kind == F32 else f"llvm.fma.v{LANES}f32"
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
        index = self.ir.phi(I64)
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

    def exp(self, x: Any) -> Any:
        """Return e to the x of each lane; 0 below -87, e^88 above 88. NaN stays NaN."""
        b, lowest, highest = self.ir, spread_constant(_LOWEST), spread_constant(_HIGHEST)
        bounded = b.select(b.fcmp_ordered(">", x, lowest), x, lowest)
        bounded = b.select(b.fcmp_ordered("<", bounded, highest), bounded, highest)
        rounder = spread_constant(_ROUNDER)
        shifted = self.fma(bounded, spread_constant(_LOG2_E), rounder)
        whole = b.fsub(shifted, rounder)
        rest = self.fma(whole, spread_constant(-_LN2_HIGH), bounded)
        rest = self.fma(whole, spread_constant(-_LN2_LOW), rest)
        series = spread_constant(_SERIES[0])
        for number in _SERIES[1:]:
            series = self.fma(series, rest, spread_constant(number))
        power = b.sub(b.bitcast(shifted, WHOLE), b.bitcast(rounder, WHOLE))
        power = b.add(power, self.whole(_EXPONENT_BIAS))
        power = b.shl(power, self.whole(_MANTISSA_BITS))
        result = b.fmul(series, b.bitcast(power, VECTOR))
        result = b.select(b.fcmp_ordered("<", x, lowest), spread_constant(0), result)
        return b.select(b.fcmp_unordered("uno", x, x), x, result)

    def higher(self, a: Any, b: Any) -> Any:
        """Return the higher of two numbers or vectors; `b` where one is NaN."""
        return self.ir.select(self.ir.fcmp_ordered(">", a, b), a, b)

    def whole(self, number: int) -> Any:
        """Return a vector of one integer in every lane."""
        return ir.Constant(WHOLE, [number] * LANES)

    def pairwise(self, vector: Any, join: Callable[[Any, Any], Any]) -> Any:
        """Join the lanes of a vector to one number, halves with halves."""
        lanes = [self.ir.extract_element(vector, ir.Constant(I32, lane)) for lane in range(LANES)]
        while len(lanes) > 1:
            half = len(lanes) // 2
            lanes = [join(lanes[i], lanes[i + half]) for i in range(half)]
        return lanes[0]
