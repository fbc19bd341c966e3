"""Functions of one number, made of the same few operations on every machine."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from inference.engine.kernels.vectors import bits_of_float, float_of_bits, fma

_LOG2_E: Final = np.float32(1.4426950408889634)
# ln 2 in two parts, the first with few enough bits that its multiples are exact (Cody and Waite).
_LN2_HIGH: Final = np.float32(0.693359375)
_LN2_LOW: Final = np.float32(-2.12194440e-4)
# Adding it rounds a small number to an integer, which then stands in the lowest bits.
_ROUNDER: Final = np.float32(12582912.0)
_LOWEST: Final = np.float32(-87.0)
_HIGHEST: Final = np.float32(88.0)
_BIAS: Final = np.int32(127)
_MANTISSA_BITS: Final = np.int32(23)
# 1/n!, from 2 to 7: the error is within two units in the last place on half of ln 2.
_C2: Final = np.float32(1 / 2)
_C3: Final = np.float32(1 / 6)
_C4: Final = np.float32(1 / 24)
_C5: Final = np.float32(1 / 120)
_C6: Final = np.float32(1 / 720)
_C7: Final = np.float32(1 / 5040)
_ONE: Final = np.float32(1)
_NONE: Final = np.float32(0)


@njit(nogil=True, cache=True, inline="always")
def exp(x: np.float32) -> np.float32:
    """Return e to the x in single precision; 0 below -87, and e^88 above 88. NaN stays NaN."""
    bounded = min(max(x, _LOWEST), _HIGHEST)
    shifted = fma(bounded, _LOG2_E, _ROUNDER)
    whole = np.float32(shifted - _ROUNDER)
    rest = fma(whole, np.float32(-_LN2_HIGH), bounded)
    rest = fma(whole, np.float32(-_LN2_LOW), rest)
    series = fma(_C7, rest, _C6)
    series = fma(series, rest, _C5)
    series = fma(series, rest, _C4)
    series = fma(series, rest, _C3)
    series = fma(series, rest, _C2)
    series = fma(series, rest, _ONE)
    series = fma(series, rest, _ONE)
    power = (bits_of_float(shifted) - bits_of_float(_ROUNDER) + _BIAS) << _MANTISSA_BITS
    result = np.float32(series * float_of_bits(np.int32(power)))
    if x < _LOWEST:
        return _NONE
    # Comparisons with NaN are false, so only here does it come back.
    return result if x == x else x


@njit(nogil=True, cache=True, inline="always")
def silu(x: np.float32) -> np.float32:
    """Return x · sigmoid(x)."""
    return np.float32(x / np.float32(_ONE + exp(np.float32(-x))))
