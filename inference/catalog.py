"""What a node sells: models by name, each with its engine, its price and its proof.

A paid call holds a lease on its entry from its first step to its end. An entry that leaves the
catalog, unloaded or replaced under its name, is handed to `on_free` when its last lease has ended:
memory is never taken from under a call, and a call never ends on another model than it began on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from types import TracebackType

from inference.engine.engines import Engine
from inference.errors import ModelStoppedError, ModelUnknownError
from inference.loader import LoadedModel
from inference.payments.pricing import Price
from inference.work import Sells, Work, is_exact
from registry.chain.block import Block
from registry.verify import VerifiedModel


@dataclass(frozen=True, eq=False)
class CatalogEntry:
    """One model on sale. `engine` computes with the very tensors `loaded` holds.

    `folder` is where its files were read from, None for the block store; `memory` is what it takes
    in bytes. `exact_price` is that of answers that depend on their request alone, None where it is
    `price`. Two entries are never equal: the same model loaded twice is two things in memory.
    """

    name: str
    verified: VerifiedModel
    loaded: LoadedModel
    engine: Engine
    price: Price
    folder: Path | None = None
    memory: int = 0
    exact_price: Price | None = None

    @property
    def model_id(self) -> str:
        """Return the ModelId as 0x text."""
        return "0x" + self.verified.model_id.hex()

    @property
    def task(self) -> str:
        """Return `chat`, `classify` or `embed`, from the manifest."""
        return self.verified.manifest.task

    def price_for(self, work: Work) -> Price:
        """Return the price of a piece of work."""
        if isinstance(work, Sells):
            return work.price
        if is_exact(work):
            return self.exact_price or self.price
        return self.price


@dataclass
class Standing:
    """How an entry stands. Times are in unix seconds; `paid_at` is 0 before the first charge.

    `stopped` says why it is not sold, or is empty; `tampered` that its resident weights changed;
    `retired` that it left the catalog and waits for its calls in flight, which are `leases`. The
    catalog's own changes several times in each call; who asks is given a copy.
    """

    loaded_at: float
    paid_at: float = 0.0
    leases: int = 0
    stopped: str = ""
    tampered: bool = False
    retired: bool = False
    block: Block | None = None


class Lease:
    """The right to use an entry's memory until `end`, which may be called twice."""

    def __init__(self, entry: CatalogEntry, end: Callable[[CatalogEntry], None]) -> None:
        self.entry = entry
        self._end: Callable[[CatalogEntry], None] | None = end

    def end(self) -> None:
        """Give the right back."""
        end, self._end = self._end, None
        if end is not None:
            end(self.entry)

    def __enter__(self) -> CatalogEntry:
        return self.entry

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


class Catalog:
    """Models by name or ModelId; a stopped model is sold again only after it is loaded anew.

    `on_free` is called with an entry that nobody can reach or uses any more, on whichever thread
    ended its last lease: it must return at once. Safe to use from several threads.
    """

    def __init__(self, on_free: Callable[[CatalogEntry], None] = lambda _: None) -> None:
        self._on_free = on_free
        self._entries: dict[str, CatalogEntry] = {}
        # Of every entry in memory, those that were retired and not freed yet included.
        self._standing: dict[CatalogEntry, Standing] = {}
        self._lock = Lock()

    def add(self, entry: CatalogEntry) -> CatalogEntry | None:
        """Put a model on sale under its name; return the one it replaced there."""
        with self._lock:
            before = self._entries.get(entry.name)
            self._entries[entry.name] = entry
            self._standing[entry] = Standing(loaded_at=time.time())
        if before is not None:
            self._retire([before])
        return before

    def remove(self, name: str) -> CatalogEntry:
        """Take the model of a name off sale at once. Raises `ModelUnknownError`."""
        with self._lock:
            entry = self._entries.pop(name, None)
            if entry is None:
                raise self._unknown(name, None)
        self._retire([entry])
        return entry

    def evict(self, entries: Iterable[CatalogEntry]) -> bool:
        """Take all of these off sale, or none and return False when one has a call in flight."""
        listed = list(entries)
        with self._lock:
            if any(e not in self._standing or self._standing[e].leases for e in listed):
                return False
            for entry in listed:
                if self._entries.get(entry.name) is entry:
                    del self._entries[entry.name]
        self._retire(listed)
        return True

    def clear(self) -> tuple[CatalogEntry, ...]:
        """Forget everything, whoever holds a lease, and return what was in memory."""
        with self._lock:
            entries = tuple(self._standing)
            self._entries.clear()
            self._standing.clear()
        return entries

    def get(self, name: str, *, task: str | None = None) -> CatalogEntry:
        """Return the model on sale under a name or ModelId.

        Raises `ModelUnknownError`, or `ModelStoppedError` with the reason it was stopped.
        """
        with self._lock:
            return self._find(name, task)

    def lease(self, name: str, *, task: str | None = None) -> Lease:
        """Like `get`, and hold what was found in memory until the lease ends."""
        with self._lock:
            entry = self._find(name, task)
            self._standing[entry].leases += 1
        return Lease(entry, self._end)

    def hold(self, entry: CatalogEntry) -> Lease | None:
        """Hold a known entry in memory, also one that is retired; None when it is freed already."""
        with self._lock:
            standing = self._standing.get(entry)
            if standing is None:
                return None
            standing.leases += 1
        return Lease(entry, self._end)

    def stop(self, which: str | CatalogEntry, reason: str, *, tampered: bool = False) -> bool:
        """Stop selling a model; False when it was stopped so already, or is gone.

        Calls in flight finish; after `tampered`, which says that its weights changed in memory,
        they fail in `check_sound` and are not charged.
        """
        with self._lock:
            entry = self._entry(which)
            if entry is None:
                return False
            before = self._standing[entry]
            fresh = not before.stopped or (tampered and not before.tampered)
            if fresh:
                before.stopped, before.tampered = reason, tampered
        return fresh

    def check_on_sale(self, entry: CatalogEntry) -> None:
        """Raise `ModelStoppedError` when the entry was stopped; one that was replaced is not."""
        if reason := self._place(entry).stopped:
            raise ModelStoppedError(f"model {entry.name} is not sold any more: {reason}")

    def check_sound(self, entry: CatalogEntry) -> None:
        """Raise `ModelStoppedError` when the entry's weights were found changed in memory."""
        standing = self._place(entry)
        if standing.tampered:
            raise ModelStoppedError(
                f"model {entry.name} was stopped while it answered: {standing.stopped}; "
                "nothing was charged"
            )

    def set_block(self, which: str | CatalogEntry, block: Block) -> None:
        """Note the block at which a model was last found to stand."""
        with self._lock:
            entry = self._entry(which)
            if entry is not None:
                self._standing[entry].block = block

    def block(self, entry: CatalogEntry) -> Block:
        """Return the newest block at which a model was found to stand."""
        return self._place(entry).block or entry.verified.block

    def mark_paid(self, entry: CatalogEntry) -> None:
        """Note that a call of the model was charged now."""
        self._place(entry).paid_at = time.time()

    def stopped(self, which: str | CatalogEntry) -> str:
        """Return why a model was stopped, or an empty string."""
        with self._lock:
            entry = self._entry(which)
            return self._standing[entry].stopped if entry else ""

    def standing(self, entry: CatalogEntry) -> Standing:
        """Return how an entry stands; one that was freed is retired and has no calls."""
        return replace(self._place(entry))

    def held(self) -> tuple[CatalogEntry, ...]:
        """Return everything in memory: what is on sale, what was stopped, what is retired."""
        with self._lock:
            return tuple(self._standing)

    def __iter__(self) -> Iterator[CatalogEntry]:
        with self._lock:
            return iter(tuple(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def _find(self, name: str, task: str | None) -> CatalogEntry:
        # An id is looked for first: whatever a model is called, an id means that model alone.
        named = self._entries.get(name)
        found = []
        if name[:2] in ("0x", "0X"):
            found = [e for e in self._entries.values() if e.model_id == name.lower()]
        found = found or ([named] if named else [])
        fitting = [entry for entry in found if task in (None, entry.task)]
        for entry in fitting:
            if not self._standing[entry].stopped:
                return entry
        if fitting:
            reason = self._standing[fitting[0]].stopped
            raise ModelStoppedError(f"model {fitting[0].name} is not sold any more: {reason}")
        raise self._unknown(name, task)

    def _unknown(self, name: str, task: str | None) -> ModelUnknownError:
        fitting = [e.name for e in self._entries.values() if task in (None, e.task)]
        return ModelUnknownError(
            f"no model {name!r:.80} here",
            hint=f"served here: {', '.join(sorted(fitting)) or 'none'}",
        )

    def _entry(self, which: str | CatalogEntry) -> CatalogEntry | None:
        if isinstance(which, str):
            return self._entries.get(which)
        return which if which in self._standing else None

    def _place(self, entry: CatalogEntry) -> Standing:
        """Return how an entry stands; one look at a dict, for which no lock is needed."""
        place = self._standing.get(entry)
        return Standing(loaded_at=0.0, retired=True) if place is None else place

    def _retire(self, entries: Iterable[CatalogEntry]) -> None:
        """Bar what left the catalog, and free what nobody uses."""
        with self._lock:
            for entry in entries:
                if entry in self._standing:
                    self._standing[entry].retired = True
        for entry in entries:
            self._free_unused(entry)

    def _end(self, entry: CatalogEntry) -> None:
        with self._lock:
            if entry in self._standing:
                self._standing[entry].leases -= 1
        self._free_unused(entry)

    def _free_unused(self, entry: CatalogEntry) -> None:
        with self._lock:
            standing = self._standing.get(entry)
            if standing is None or not standing.retired or standing.leases:
                return
            del self._standing[entry]
        self._on_free(entry)
