"""Which wallets may try for free: those on the operator's list, and those that hold enough.

A wallet that holds too little is not asked about again for a while, so that its paid calls do not
each cost a question to the chain; nobody is asked about before a payment of his was verified.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from inference.database import Database
from inference.errors import UnavailableError
from inference.payments.plan_book import PlanBook, trial_id
from registry.errors import ChainError

# Seconds for which a wallet that held too little is taken to do so still.
_ASK_AGAIN_S: Final = 300
_MAX_ASKED: Final = 10_000


@dataclass
class TrialDoor:
    """Decides for one node. `balance_of` asks the chain what a wallet holds, in atomic units."""

    book: PlanBook
    database: Database
    balance_of: Callable[[str], int]
    clock: Callable[[], float] = time.monotonic
    _poor: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    async def may_try(self, payer: str) -> bool:
        """Return whether a wallet may use the trial. Raises `UnavailableError`."""
        trial = self.book.plans.trial
        if trial is None:
            return False
        if payer in trial.allow:
            return True
        if not trial.min_balance or self._was_poor(payer):
            return False
        if self.database.read(lambda tx: self.book.known(tx, trial_id(trial, payer))):
            return True  # It was asked about when it began: its tokens may be elsewhere now.
        if not self.database.read(lambda tx: self.book.may_begin_trial(tx, trial)):
            return False  # As many as may have tried: the chain is not asked for nothing.
        try:
            held = await asyncio.to_thread(self.balance_of, payer)
        except ChainError as error:
            raise UnavailableError("the chain does not answer; nothing was charged") from error
        if held < trial.min_balance:
            self._remember(payer)
        return held >= trial.min_balance

    def _was_poor(self, payer: str) -> bool:
        return self.clock() - self._poor.get(payer, -_ASK_AGAIN_S) < _ASK_AGAIN_S

    def _remember(self, payer: str) -> None:
        if len(self._poor) >= _MAX_ASKED:
            self._poor.clear()
        self._poor[payer] = self.clock()
