"""Story b, step 8: what was verified is asked again while it is sold.

At every new head, and every `poll_s` seconds in any case, each model's record, lineage and
attestations are read at the newest settled block. A model that fails is stopped before the next
payment is taken, and the log says why. Its tensors are the patrol's to look at.

Trouble with the chain itself says nothing against a model: it pauses all paid calls and passes.
After `grace_s` seconds without a usable answer none is taken; when two answers contradict, at once
and until everything agrees again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from inference.catalog import Catalog, CatalogEntry
from inference.errors import UnavailableError
from registry.attestation import Attestation
from registry.chain.block import Block
from registry.chain.heads import Heads
from registry.errors import (
    ChainDisputedError,
    ChainError,
    ChainStaleError,
    ChainUnreachableError,
    RecordUnknownError,
    WeightproofError,
)
from registry.workspace import Workspace

# Between two looks at the chain, in seconds: whoever pushes heads cannot make the node ask faster.
_BREATH_S: Final = 0.05

OK: Final = "ok"
UNREACHABLE: Final = "chain_unreachable"
STALE: Final = "chain_stale"
DISPUTED: Final = "chain_disputed"
# What a client is told; the operator's /healthz tells more.
_REASONS: Final = {
    UNREACHABLE: "the chain has not answered for {silent} s",
    STALE: "the chain has shown no fresh block for {silent} s",
    DISPUTED: "what the chain says is disputed",
}


@dataclass
class Watcher:
    """Watches a catalog. `report` puts an incident (kind, subject, detail) into the log.

    Times in seconds; `clock` runs evenly, `now` is Unix time, by which attestations end.
    """

    catalog: Catalog
    workspace: Workspace
    report: Callable[[str, str, str], None]
    poll_s: float
    grace_s: float
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    _answered_at: float = field(default=0.0, init=False)
    _block: Block | None = field(default=None, init=False)
    _trouble: ChainError | None = field(default=None, init=False)
    # By ModelId: when the first of the attestations that counted ends.
    _ends: dict[str, float] = field(default_factory=dict, init=False)
    # What the log could not take yet: a model is stopped all the same.
    _untold: list[tuple[str, str, str]] = field(default_factory=list, init=False)
    _heads: Heads | None = field(default=None, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        self._answered_at = self.clock()
        self._heads = self.workspace.heads()

    def ready(self) -> None:
        """Raise `UnavailableError` when what the chain says now is not known well enough."""
        status, _ = self.state()
        if status != OK:
            reason = _REASONS[status].format(silent=int(self.silent_s()))
            raise UnavailableError(f"{reason}; nothing was charged", hint="try again later")

    def state(self) -> tuple[str, str]:
        """Return how the chain is, and a sentence about it."""
        trouble, silent = self._trouble, int(self.silent_s())
        if isinstance(trouble, ChainDisputedError):
            return DISPUTED, trouble.message
        if self.silent_s() <= self.grace_s:
            return OK, trouble.message if trouble else f"the chain answered {silent} s ago"
        if isinstance(trouble, ChainStaleError):
            return STALE, trouble.message
        why = trouble.message if trouble else "it is being asked"
        return UNREACHABLE, f"no usable answer for {silent} s: {why}"

    def silent_s(self) -> float:
        """Return for how many seconds the chain has given no usable answer."""
        return self.clock() - self._answered_at

    @property
    def block(self) -> Block | None:
        """The newest final block at which everything was asked; None before the first."""
        return self._block

    @property
    def pushed(self) -> bool:
        """Whether new heads are pushed now; else they are polled."""
        return self._heads is not None and self._heads.pushed

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_records())
            if self._heads is not None:
                tasks.create_task(self._heads.follow(self._wake.set))

    def check_records(self) -> None:
        """Read what the chain says of every model on sale, and stop those it speaks against."""
        self._tell()
        try:
            # Asked even when nothing is on sale: an answer is what `ready` waits for.
            block = self.workspace.trusted_block()
        except ChainError as error:
            self._note([error])
            return
        # All are asked, whatever is the matter with one: none may hide another's revocation.
        self._note([e for entry in self._on_sale() if (e := self._check_record(entry, block))])
        if self._trouble is None:
            self._block, self._answered_at = block, self.clock()

    async def _watch_records(self) -> None:
        while True:
            await asyncio.to_thread(self.check_records)
            await asyncio.sleep(_BREATH_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            self._wake.clear()

    def _pause_s(self) -> float:
        """Return how long to wait for a head: no attestation ends unseen in the meantime."""
        left = [self._ends_at(entry) - self.now() for entry in self._on_sale()]
        return min([self.poll_s, *(seconds for seconds in left if seconds > 0)])

    def _check_record(self, entry: CatalogEntry, block: Block) -> ChainError | None:
        if self.catalog.block(entry) == block and self.now() < self._ends_at(entry):
            return None  # what was read at this block's hash cannot have changed
        try:
            counting = self.workspace.recheck(entry.verified, block)
        except ChainError as error:
            return error
        except RecordUnknownError as error:
            # Records do not vanish: an endpoint that lost one lags behind, or lies.
            return ChainUnreachableError(error.message)
        except WeightproofError as error:
            self._stop(entry, error)
            return None
        self._ends[entry.model_id] = _first_end(counting)
        self.catalog.set_block(entry, block)
        return None

    def _ends_at(self, entry: CatalogEntry) -> float:
        verified = entry.verified
        counted = verified.attestations + (verified.base.attestations if verified.base else ())
        return self._ends.get(entry.model_id, _first_end(counted))

    def _note(self, troubles: list[ChainError]) -> None:
        disputes = [error for error in troubles if isinstance(error, ChainDisputedError)]
        trouble = next(iter(disputes + troubles), None)
        # Silence does not settle a dispute: it stands until everything is answered and agrees.
        if trouble is None or disputes or not isinstance(self._trouble, ChainDisputedError):
            self._trouble = trouble

    def _stop(self, entry: CatalogEntry, error: WeightproofError) -> None:
        if self.catalog.stop(entry, error.message):
            self._untold.append(("model stopped", entry.model_id, error.message))
            self._tell()

    def _tell(self) -> None:
        """Put into the log what it has not been told; what it cannot take now is kept."""
        # A log that cannot be written must neither end the watch nor lose an incident.
        with suppress(UnavailableError):
            while self._untold:
                self.report(*self._untold[0])
                del self._untold[0]

    def _on_sale(self) -> list[CatalogEntry]:
        return [entry for entry in self.catalog if not self.catalog.stopped(entry)]


def _first_end(attestations: Iterable[Attestation]) -> float:
    return min((found.expires_at for found in attestations), default=float("inf"))
