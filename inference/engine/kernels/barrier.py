"""A barrier: threads within a kernel wait for one another without the interpreter.

Between two meetings threads take the units of the work one by one: a thread that lost its processor
for a while to somebody else does less of them, and the others need not wait for it.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# What the int64 array of a barrier holds: who arrived, how often all did, and which unit is next.
# Each on a cache line of its own, so that waiting does not slow arriving.
SLOTS: Final = 24
_ARRIVED: Final = 0
_ROUND: Final = 8
_NEXT: Final = 16
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
        barrier[_NEXT] = 0
        return
    before = _read(barrier, _ROUND)
    if _add(barrier, _ARRIVED, 1) == team - 1:
        _add(barrier, _ARRIVED, -team)
        # Nobody takes units now.
        barrier[_NEXT] = 0
        _add(barrier, _ROUND, 1)
        return
    looks = 0
    while _read(barrier, _ROUND) == before:
        looks += 1
        if looks > _LOOKS:
            _let_others_run()


@njit(nogil=True, cache=True)
def take(barrier: Any) -> int:
    """Return a unit's number, 0, 1, 2, …, that no other thread takes before all meet."""
    return _add(barrier, _NEXT, 1)


def _place(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    made = context.make_array(kind)(context, builder, arguments[0])
    return builder.gep(made.data, [arguments[1]])
