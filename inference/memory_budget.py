"""Which models give way to a new one: a pure rule over what is held in memory.

Nothing gives way unless that is enough, nothing more than needed, and never a model with a call in
flight. Whoever was paid longest ago goes first; before its first charge, a model counts as paid
when it was loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inference.errors import NodeError


class MemoryExceededError(NodeError):
    """A model does not fit into the memory that models may take."""

    status = 409
    code = "memory_exceeded"
    exit_code = 2


@dataclass(frozen=True)
class Holding:
    """One model in memory: its size in bytes, and when it was last paid, in unix seconds.

    `movable` is False for a model with calls in flight, and for one that is to be kept.
    """

    name: str
    memory: int
    paid_at: float
    movable: bool


def giving_way(
    held: Iterable[Holding], *, name: str, needed: int, budget: int, unload: bool
) -> tuple[str, ...]:
    """Return the names of the models to unload so that `needed` bytes for model `name` fit.

    None where they fit already; `unload` False allows none. Raises `MemoryExceededError`.
    """
    listed = list(held)
    used = sum(holding.memory for holding in listed)
    movable = [holding for holding in listed if holding.movable and holding.memory > 0]
    lacking = used + needed - budget
    if lacking <= 0:
        return ()
    if not unload or sum(holding.memory for holding in movable) < lacking:
        raise MemoryExceededError(
            f"model {name} needs {needed} bytes of memory; of the {budget} that models may take, "
            f"{used} are used",
            hint=_advice(needed, budget, unload),
        )
    chosen: list[Holding] = []
    for holding in sorted(movable, key=lambda holding: holding.paid_at):
        if sum(one.memory for one in chosen) < lacking:
            chosen.append(holding)
    for holding in reversed(chosen):
        # A small model taken before a large one that is enough by itself can stay.
        if sum(one.memory for one in chosen) - holding.memory >= lacking:
            chosen.remove(holding)
    return tuple(holding.name for holding in chosen)


def _advice(needed: int, budget: int, unload: bool) -> str:
    if needed > budget:
        return "use a larger machine, or register it with a smaller serving.max_context"
    if unload:
        return "too much of it has calls in flight; try again, or raise node.memory_budget_bytes"
    return (
        "unload a model first (weightproof models unload NAME), raise node.memory_budget_bytes, "
        "or set node.unload_when_full"
    )
