"""Story b, step 8: what was verified is asked again while it is sold.

Every `poll_s` seconds each model's record, lineage and attestations are read at the newest settled
block; every `resident_s` seconds some of its tensors are hashed again where they lie. A model that
fails is stopped before the next payment is taken, and the log says why. When the chain gives no
answer for `grace_s` seconds, no paid call is taken at all.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random, SystemRandom

from inference.catalog import Catalog, CatalogEntry
from inference.errors import ModelStoppedError, UnavailableError
from registry.errors import (
    ChainError,
    ChainUnreachableError,
    RecordUnknownError,
    WeightproofError,
)
from registry.workspace import Workspace

# Tensors drawn at each check; over an hour every tensor of a small model has its turn.
_SAMPLE = 8


@dataclass
class Watcher:
    """Watches a catalog. `report` puts an incident (kind, subject, detail) into the log."""

    catalog: Catalog
    workspace: Workspace
    report: Callable[[str, str, str], None]
    poll_s: float
    resident_s: float
    grace_s: float
    clock: Callable[[], float] = time.monotonic
    _answered_at: float = field(default=0.0, init=False)
    # Unpredictable, so that nobody can change what will not be looked at.
    _random: Random = field(default_factory=SystemRandom, init=False)

    def __post_init__(self) -> None:
        self._answered_at = self.clock()

    def ready(self) -> None:
        """Raise `UnavailableError` when the chain has not answered within the grace."""
        if self.silent_s() > self.grace_s:
            raise UnavailableError(
                f"the chain has not answered for {int(self.silent_s())} s; nothing was charged",
                hint="try again later",
            )

    def silent_s(self) -> float:
        """Return for how many seconds the chain has not answered."""
        return self.clock() - self._answered_at

    async def run(self) -> None:
        """Watch until cancelled."""
        checked_at = self.clock()
        while True:
            await asyncio.sleep(self.poll_s)
            # A log that cannot be written now must not end the watch: the model is stopped already.
            with suppress(UnavailableError):
                await asyncio.to_thread(self.check_records)
            if self.clock() - checked_at >= self.resident_s:
                with suppress(UnavailableError):
                    await asyncio.to_thread(self.check_residents)
                checked_at = self.clock()

    def check_records(self) -> None:
        """Read what the chain says of every model on sale, and stop those it speaks against."""
        try:
            # Asked even when nothing is on sale: an answer is what `ready` waits for.
            self.workspace.final_block()
            for entry in self._on_sale():
                self._check_record(entry)
        except ChainError:
            return
        self._answered_at = self.clock()

    def check_residents(self) -> None:
        """Hash some tensors of every model on sale where they lie."""
        for entry in self._on_sale():
            try:
                entry.loaded.resident.sample(_SAMPLE, self._random)
            except ModelStoppedError as error:
                self._stop(entry, "resident weights changed", error)

    def _check_record(self, entry: CatalogEntry) -> None:
        try:
            self.catalog.set_block(entry.name, self.workspace.recheck(entry.verified))
        except ChainError:
            raise
        except RecordUnknownError as error:
            # Records do not vanish: an endpoint that lost one lags behind, or lies.
            raise ChainUnreachableError(error.message) from error
        except WeightproofError as error:
            self._stop(entry, "model stopped", error)

    def _stop(self, entry: CatalogEntry, incident: str, error: WeightproofError) -> None:
        if self.catalog.stop(entry.name, error.message):
            self.report(incident, entry.model_id, error.message)

    def _on_sale(self) -> list[CatalogEntry]:
        return [entry for entry in self.catalog if not self.catalog.stopped(entry.name)]
