"""What the processor has that kernels are shaped after, as their compiler sees it."""

from __future__ import annotations

from typing import Final

import llvmlite.binding as llvm
import numba

_BF16: Final = "avx512bf16"
_WIDE: Final = "avx512f"


def has_bf16_unit() -> bool:
    """Return whether kernels may use the processor's bfloat16 unit (AVX512_BF16)."""
    return _has(_BF16)


def has_wide_registers() -> bool:
    """Return whether a register holds sixteen numbers, of which there are 32 then (AVX-512).

    Elsewhere sixteen numbers take two registers or four, of 16 or 32.
    """
    return _has(_WIDE)


def processor() -> str:
    """Return the kind of processor that kernels are compiled for, as LLVM names it."""
    return str(numba.config.CPU_NAME or llvm.get_host_cpu_name())


def _has(feature: str) -> bool:
    # What numba was told to compile for goes before what the processor has.
    if numba.config.CPU_NAME is not None or numba.config.CPU_FEATURES is not None:
        return f"+{feature}" in (numba.config.CPU_FEATURES or "").split(",")
    return bool(llvm.get_host_cpu_features().get(feature)) and bool(numba.config.ENABLE_AVX)
