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
I16: Final = ir.IntType(16)
HALVES: Final = ir.VectorType(I16, LANES)
_LINE: Final = 64

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


class _Brain(ir.types.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Brain)

    def __hash__(self) -> int:
        return hash(_Brain)


PAIRS: Final = ir.VectorType(_Brain(), 2 * LANES)


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

    def place(self, start: Any, count: int, step: Any) -> Any:
        """Return the index `count` steps behind another."""
        return self.ir.add(start, self.ir.mul(step, self.constant(count)))

    def load(self, pointer: Any, align: int = 4) -> Any:
        """Load sixteen numbers."""
        value = self.ir.load(self.ir.bitcast(pointer, VECTOR.as_pointer()))
        value.align = align
        return value

    def load_weights(self, pointer: Any, narrow: bool) -> Any:
        """Load sixteen weights from a multiple of their size."""
        return self.load_either(pointer, narrow, _LINE // 2 if narrow else _LINE)

    def load_either(self, pointer: Any, narrow: bool, align: int) -> Any:
        """Load sixteen numbers; `narrow` ones are bfloat16, the upper half of a float32."""
        if not narrow:
            return self.load(pointer, align)
        halves = self.ir.load(self.ir.bitcast(pointer, HALVES.as_pointer()))
        halves.align = align
        bits = self.ir.shl(self.ir.zext(halves, WHOLE), self.whole(16))
        return self.ir.bitcast(bits, VECTOR)

    def store(self, value: Any, pointer: Any) -> None:
        """Store sixteen numbers."""
        made = self.ir.store(value, self.ir.bitcast(pointer, VECTOR.as_pointer()))
        made.align = 4

    def store_either(self, value: Any, pointer: Any, narrow: bool) -> None:
        """Store sixteen numbers; `narrow` ones are rounded to bfloat16."""
        if not narrow:
            self.store(value, pointer)
            return
        made = self.ir.store(self.narrow(value), self.ir.bitcast(pointer, HALVES.as_pointer()))
        made.align = 2

    def narrow(self, value: Any) -> Any:
        """Round a float32, or a vector of them, to bfloat16: to nearest, ties to even.

        In integers, which every processor has. A NaN stays one: its upper half alone may say
        infinity, so that a bit of it is set.
        """
        b, one = self.ir, value.type == F32
        whole, half = (I32, I16) if one else (WHOLE, HALVES)

        def number(n: int) -> Any:
            return ir.Constant(I32, n) if one else self.whole(n)

        bits = b.bitcast(value, whole)
        upper = b.lshr(bits, number(16))
        tie = b.add(b.and_(upper, number(1)), number(0x7FFF))
        rounded = b.lshr(b.add(bits, tie), number(16))
        strange = b.fcmp_unordered("uno", value, value)
        return b.trunc(b.select(strange, b.or_(upper, number(0x40)), rounded), half)

    def spread(self, scalar: Any) -> Any:
        """Put one number, or one integer of 32 bits, into every lane."""
        undefined = ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined)
        one = self.ir.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.ir.shuffle_vector(one, undefined, ir.Constant(WHOLE, [0] * LANES))

    def spread_pair(self, pointer: Any) -> Any:
        """Load two bfloat16 and put them into every lane."""
        pair = self.ir.load(self.ir.bitcast(pointer, I32.as_pointer()))
        pair.align = 2
        return self.ir.bitcast(self.spread(pair), PAIRS)

    def load_pairs(self, pointer: Any) -> Any:
        """Load an aligned pair of bfloat16 for every lane."""
        pairs = self.ir.load(self.ir.bitcast(pointer, PAIRS.as_pointer()))
        pairs.align = _LINE
        return pairs

    def dot(self, a: Any, b: Any, c: Any) -> Any:
        """Return for each lane c + a[1] · b[1], then + a[0] · b[0], each rounded once.

        That is what the processor's bfloat16 unit does (VDPBF16PS); numbers smaller than the
        normal ones are zero to it.
        """
        function = cgutils.get_or_insert_function(
            self.ir.module,
            ir.FunctionType(VECTOR, [VECTOR, PAIRS, PAIRS]),
            "llvm.x86.avx512bf16.dpbf16ps.512",
        )
        return self.ir.call(function, [c, a, b])

    def prefetch(self, pointer: Any, lines: int) -> None:
        """Ask for cache lines that will be read soon; nothing happens where there is no memory."""
        byte = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            self.ir.module,
            ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32]),
            "llvm.prefetch.p0",
        )
        first = self.ir.bitcast(pointer, byte)
        # To read, into the cache of the second level, data.
        how = [ir.Constant(I32, number) for number in (0, 2, 1)]
        for line in range(lines):
            self.ir.call(function, [self.ir.gep(first, [self.constant(line * _LINE)]), *how])

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
