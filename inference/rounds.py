"""The node's rounds: withdrawals and challenges are looked for often, the rest is done at times.

Money is settled each so many seconds; the log's head is anchored each so many entries or seconds,
whichever comes first: an anchor costs the same however many entries it covers.

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

    def unanchored(self) -> int:
        """Return how many entries are not anchored."""


@dataclass
class Rounds:
    """Goes its rounds; times in seconds. `clock` runs evenly.

    `look_s` is between two looks for withdrawals, `every_s` between two settlements. The head is
    anchored after `anchor_every` entries or `anchor_every_s` seconds: at each look that finds so
    many new entries (0: it does not count them), at the latest after so long (0: at each
    settlement). `answer` answers challenges, where the node can be challenged.
    """

    settlement: Settles
    look_s: float
    every_s: float
    clock: Callable[[], float] = time.monotonic
    anchor_every: int = 0
    anchor_every_s: float = 0.0
    answer: Callable[[], object] | None = None
    # By step: since when it fails, and why.
    _failing: dict[str, tuple[float, str]] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)
    _due: float = field(default=0.0, init=False)
    _anchor_due: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._due = self.clock() + self.every_s
        self._anchor_due = self.clock() + self._anchor_wait_s

    async def run(self) -> None:
        """Go round until cancelled."""
        # A thread of its own: those that all share may wait for the chain, minutes long.
        with ThreadPoolExecutor(1, thread_name_prefix="rounds") as thread:
            while True:
                await asyncio.sleep(self.pause_s())
                await asyncio.get_running_loop().run_in_executor(thread, self.go)

    def go(self) -> None:
        """Do what is due now; each step is tried whatever became of the others."""
        steps: dict[str, Callable[[], object]] = {"rescue": self.settlement.rescue}
        if self.answer is not None:
            steps["answer"] = self.answer
        if is_due := self.clock() >= self._due:
            steps["tick"] = self.settlement.tick
        steps["anchor"] = self._anchor
        failed = [name for name, step in steps.items() if not self._try(name, step)]
        self._failures = self._failures + 1 if failed else 0
        if is_due and "tick" not in failed:
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

    @property
    def _anchor_wait_s(self) -> float:
        return self.anchor_every_s or self.every_s

    def _anchor(self) -> None:
        """Anchor the head if its time has come, or entries enough have."""
        is_due = self.clock() >= self._anchor_due
        if not is_due and self.anchor_every:
            is_due = self.settlement.unanchored() >= self.anchor_every
        if not is_due:
            return
        self.settlement.anchor()
        self._anchor_due = self.clock() + self._anchor_wait_s

    def _try(self, step: str, do: Callable[[], object]) -> bool:
        try:
            do()
        except LockTakenError:
            pass  # another process is at it, for all that share the database
        except Exception as error:  # a door: an odd error must not end settlement for ever
            since, _ = self._failing.get(step, (self.clock(), ""))
            why = error.message if isinstance(error, WeightproofError) else type(error).__name__
            self._failing[step] = since, why
            return False
        self._failing.pop(step, None)
        return True
