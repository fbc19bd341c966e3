"""Whether the processor multiplies bfloat16 numbers by itself, as the kernels' compiler sees it."""

from __future__ import annotations

from typing import Final

import llvmlite.binding as llvm
import numba

_FEATURE: Final = "avx512bf16"


def has_bf16_unit() -> bool:
    """Return whether kernels may use the processor's bfloat16 unit (AVX512_BF16)."""
    # What numba was told to compile for goes before what the processor has.
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return f"+{_FEATURE}" in (numba.config.CPU_FEATURES or "").split(",")
    return bool(llvm.get_host_cpu_features().get(_FEATURE)) and bool(numba.config.ENABLE_AVX)


def processor() -> str:
    """Return the kind of processor that kernels are compiled for, as LLVM names it."""
    return str(numba.config.CPU_NAME or llvm.get_host_cpu_name())
