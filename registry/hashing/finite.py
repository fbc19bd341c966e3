"""Numbers that make a model worthless without making its file invalid: NaN, infinity, only dust.

A tensor of nothing but denormal numbers computes zeros on processors that flush them, and other
results on those that do not. IEEE 754 puts the exponent above the mantissa, so the largest
magnitude of a tensor is the largest of its bit patterns without their signs: integers decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True)
class _Layout:
    """A floating point format: its unsigned and signed integers, and how many bits are mantissa."""

    unsigned: type[np.unsignedinteger]
    signed: type[np.signedinteger]
    mantissa: int

    @property
    def sign(self) -> int:
        return 1 << (8 * np.dtype(self.unsigned).itemsize - 1)

    @property
    def infinity(self) -> int:
        return self.sign - (1 << self.mantissa)


_LAYOUTS: Final[Mapping[str, _Layout]] = {
    "F16": _Layout(np.uint16, np.int16, 10),
    "BF16": _Layout(np.uint16, np.int16, 7),
    "F32": _Layout(np.uint32, np.int32, 23),
    "F64": _Layout(np.uint64, np.int64, 52),
}


def magnitude(dtype: str, data: memoryview) -> int:
    """Return the largest bit pattern without its sign among a tensor's values; 0 if no float.

    `data` are whole little-endian values. Magnitudes of parts combine by `max`.
    """
    layout = _LAYOUTS.get(dtype)
    if layout is None or not data:
        return 0
    bits = np.frombuffer(data, layout.unsigned)
    # Read with a sign the positive numbers are the largest, read without one the negative are.
    positive = max(0, int(bits.view(layout.signed).max()))
    largest = int(bits.max())
    return max(positive, largest - layout.sign if largest >= layout.sign else 0)


def finite_fault(dtype: str, largest: int) -> str:
    """Return what is wrong with a tensor of that magnitude, or an empty string."""
    layout = _LAYOUTS.get(dtype)
    if layout is None or largest == 0:
        return ""
    if largest >= layout.infinity:
        return "has a value that is NaN or infinite"
    if largest < 1 << layout.mantissa:
        return "has no value but denormal ones"
    return ""
