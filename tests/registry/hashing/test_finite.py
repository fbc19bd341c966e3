"""Magnitudes by bit patterns, against the numbers themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.hashing.finite import finite_fault, magnitude

FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def fault(dtype: str, values: list[float]) -> str:
    data = memoryview(np.array(values, dtype=FLOATS[dtype]).tobytes())
    return finite_fault(dtype, magnitude(dtype, data))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("others", [[], [1.0, -2.0], [-1.0], [0.0]])
def test_one_value_that_is_no_number_is_found(dtype: str, bad: float, others: list[float]) -> None:
    assert "NaN or infinite" in fault(dtype, [*others, bad, *others])


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_but_denormal_numbers_is_found(dtype: str) -> None:
    tiny = float(np.finfo(FLOATS[dtype]).smallest_subnormal)
    assert "denormal" in fault(dtype, [0.0, -tiny, tiny])
    assert fault(dtype, [0.0, -tiny, 1.0]) == ""


def test_brain_floats_are_read_as_such() -> None:
    assert "NaN" in finite_fault("BF16", magnitude("BF16", memoryview(b"\x80\x7f")))
    assert "NaN" in finite_fault("BF16", magnitude("BF16", memoryview(b"\x80\xff\x00\x3f")))
    assert "denormal" in finite_fault("BF16", magnitude("BF16", memoryview(b"\x7f\x80")))
    assert finite_fault("BF16", magnitude("BF16", memoryview(b"\x7f\x7f\xff\xff"[:2]))) == ""


def test_zeros_and_integers_are_sound() -> None:
    assert fault("F32", [0.0, -0.0]) == ""
    assert finite_fault("I32", magnitude("I32", memoryview(b"\xff\xff\xff\xff"))) == ""


@given(st.sampled_from(sorted(FLOATS)), st.lists(st.floats(width=16), min_size=1, max_size=40))
def test_the_fault_is_that_of_the_numbers(dtype: str, values: list[float]) -> None:
    array = np.array(values, dtype=FLOATS[dtype])
    largest = float(np.max(np.abs(array))) if np.isfinite(array).all() else math.inf
    if not math.isfinite(largest):
        assert "NaN or infinite" in fault(dtype, values)
    elif 0 < largest < float(np.finfo(FLOATS[dtype]).smallest_normal):
        assert "denormal" in fault(dtype, values)
    else:
        assert fault(dtype, values) == ""
