"""The node's rounds: withdrawals are looked for often, everything else is settled now and then.

What fails is tried again, after twice the time at each failure, up to the time between two rounds:
what was done stays done, and nothing is lost by waiting. A chain that is silent for hours is one
long failure, and the first round after it catches up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from inference.store import LockTakenError
from registry.errors import WeightproofError


class Settles(Protocol):
    """What a round does; `Settlement` is one."""

    def rescue(self) -> object:
        """Claim what a withdrawal endangers."""

    def tick(self) -> object:
        """Claim and settle."""

    def anchor(self) -> object:
        """Anchor the log's head."""


@dataclass
class Rounds:
    """Goes its rounds; times in seconds. `clock` runs evenly.

    `look_s` is between two looks for withdrawals, `every_s` between two settlements.
    """

    settlement: Settles
    look_s: float
    every_s: float
    clock: Callable[[], float] = time.monotonic
    # By step: since when it fails, and why.
    _failing: dict[str, tuple[float, str]] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)
    _due: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._due = self.clock() + self.every_s

    async def run(self) -> None:
        """Go round until cancelled."""
        # A thread of its own: those that all share may wait for the chain, minutes long.
        with ThreadPoolExecutor(1, thread_name_prefix="rounds") as thread:
            while True:
                await asyncio.sleep(self.pause_s())
                await asyncio.get_running_loop().run_in_executor(thread, self.go)

    def go(self) -> None:
        """Do what is due now; each step is tried whatever became of the others."""
        steps = ["rescue"]
        if self.clock() >= self._due:
            steps += ["tick", "anchor"]
        failed = [step for step in steps if not self._try(step)]
        self._failures = self._failures + 1 if failed else 0
        if len(steps) > 1 and not failed:
            self._due = self.clock() + self.every_s

    def pause_s(self) -> float:
        """Return how long to wait before the next round."""
        shortest, longest = sorted((self.look_s, self.every_s))
        return min(shortest * float(2 ** min(self._failures, 30)), longest)

    @property
    def error(self) -> str:
        """What fails now, since when, and why; empty when nothing does."""
        now = self.clock()
        return "; ".join(
            f"{step} fails for {int(now - since)} s: {why}"
            for step, (since, why) in self._failing.items()
        )

    def _try(self, step: str) -> bool:
        try:
            getattr(self.settlement, step)()
        except LockTakenError:
            pass  # another process is at it, for all that share the database
        except Exception as error:  # a door: an odd error must not end settlement for ever
            since, _ = self._failing.get(step, (self.clock(), ""))
            why = error.message if isinstance(error, WeightproofError) else type(error).__name__
            self._failing[step] = since, why
            return False
        self._failing.pop(step, None)
        return True
