"""A barrier: threads within a kernel wait for one another without the interpreter."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# What the int64 array of a barrier holds: who arrived, and how often all did. Each on a cache line
# of its own, so that waiting does not slow arriving.
SLOTS: Final = 16
_ARRIVED: Final = 0
_ROUND: Final = 8
# How often a thread looks before it lets others run: some ten microseconds.
_LOOKS: Final = 2000


@intrinsic
def _add(typing, array, at, amount):
    """Add to an int64 at once for all threads; return what was there before."""
    signature = types.int64(array, types.intp, types.int64)

    def code(context, builder, _, arguments):
        place = _place(context, builder, array, arguments)
        return builder.atomic_rmw("add", place, arguments[2], "seq_cst")

    return signature, code


@intrinsic
def _read(typing, array, at):
    """Read an int64 as it is now, and everything that was written before it was."""

    def code(context, builder, _, arguments):
        return builder.load_atomic(_place(context, builder, array, arguments), "acquire", 8)

    return types.int64(array, types.intp), code


@intrinsic
def _let_others_run(typing):
    """Give the processor to another thread that wants it (sched_yield, POSIX)."""

    def code(context, builder, _, arguments):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), code


@njit(nogil=True, cache=True)
def meet(barrier: Any, team: int) -> None:
    """Wait until `team` threads have come here. `barrier` is an int64 array of `SLOTS` zeros."""
    if team == 1:
        return
    before = _read(barrier, _ROUND)
    if _add(barrier, _ARRIVED, 1) == team - 1:
        _add(barrier, _ARRIVED, -team)
        _add(barrier, _ROUND, 1)
        return
    looks = 0
    while _read(barrier, _ROUND) == before:
        looks += 1
        if looks > _LOOKS:
            _let_others_run()


def _place(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    made = context.make_array(kind)(context, builder, arguments[0])
    return builder.gep(made.data, [arguments[1]])
