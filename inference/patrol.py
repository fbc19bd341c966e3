"""The patrol: every resident tensor is hashed again where it lies, again and again.

A lap takes each tensor of each model in use once, in an order drawn anew, spread evenly over
0.45 intervals. So between two looks at one tensor there are at most two laps: a flipped bit in
any of them stops its model within one interval, and nobody can foretell which is next.

What it costs is bounded: one thread, which hashes a stride and then waits, at most `bytes_per_s`
on each kind of device. Where the tensors are too many for that, laps last longer, and `bound_s`
says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random, SystemRandom
from threading import Event, Lock
from typing import Final
from weakref import ref

from inference.catalog import Catalog, CatalogEntry
from inference.errors import ModelStoppedError, UnavailableError

# Two laps and a tenth to spare fit into one interval.
_LAPS: Final = 2
LAP_SHARE: Final = 0.45
_MIB: Final = 1024 * 1024
# By kind of device: an eighth of one processor with SHA instructions, a tenth of an H200.
BYTES_PER_S: Final[Mapping[str, int]] = {"cpu": 256 * _MIB, "cuda": 8192 * _MIB}
# What is hashed between two waits: 4 ms of a processor. Every wait ends by waking a thread, and on
# a busy machine that costs the running calls more than the hashing does.
STRIDE_BYTES: Final = 8 * _MIB
# Seconds after which a patrol that waits asks again whether it should: a model that is unloaded
# meanwhile must give its memory back.
_LONGEST_WAIT_S: Final = 0.1
INCIDENT: Final = "resident weights changed"


class _UnusedError(Exception):
    """Nobody uses the model any more: the rest of its tensor need not be hashed."""


class _EndedError(Exception):
    """The patrol was told to end."""


@dataclass(frozen=True)
class Beat:
    """One look: at a tensor of a model that may be gone when its turn comes. Cost in seconds.

    Without a `tensor` it asks whether the model holds a tensor too many.
    """

    entry: ref[CatalogEntry]
    tensor: str
    nbytes: int
    cost_s: float


@dataclass
class Lap:
    """A lap under way: when it began, and how many seconds it takes for each second of cost.

    `done_s` is the cost of what is hashed, `stride` the bytes of it since the last wait.
    """

    begun: float
    stretch: float
    done_s: float = 0.0
    stride: int = 0


@dataclass
class Patrol:
    """Walks through a catalog's tensors; `interval_s` is how long a changed bit may stay unseen.

    `report` puts an incident (kind, subject, detail) into the log.
    """

    catalog: Catalog
    report: Callable[[str, str, str], None]
    interval_s: float
    bytes_per_s: Mapping[str, int] = field(default_factory=lambda: BYTES_PER_S)
    clock: Callable[[], float] = time.monotonic
    # Unpredictable, so that nobody can change what will not be looked at next.
    random: Random = field(default_factory=SystemRandom)
    _planned_s: float = field(default=0.0, init=False)
    _lap_s: float = field(default=0.0, init=False)
    _begun: float | None = field(default=None, init=False)
    _unreported: list[tuple[str, str, str]] = field(default_factory=list, init=False)
    _telling: Lock = field(default_factory=Lock, init=False)
    _ended: Event = field(default_factory=Event, init=False)

    @property
    def bound_s(self) -> float:
        """After how many seconds at most a changed bit is seen: by plan, and as laps really go.

        It grows when a lap does not come to its end.
        """
        so_far_s = 0.0 if self._begun is None else self.clock() - self._begun
        return max(self.interval_s, _LAPS * max(self._planned_s, self._lap_s, so_far_s))

    async def run(self) -> None:
        """Walk until cancelled, on a thread of its own: nothing the node waits for delays it."""
        self._ended.clear()
        with ThreadPoolExecutor(1, thread_name_prefix="patrol") as thread:
            try:
                await asyncio.get_running_loop().run_in_executor(thread, self._walk)
            finally:
                self._ended.set()

    def lap(self) -> None:
        """Look once at every tensor of every model in use, and wait for the lap's end."""
        self._tell()
        self._begun = begun = self.clock()
        beats = self.beats()
        total_s = sum(beat.cost_s for beat in beats)
        self._planned_s = max(LAP_SHARE * self.interval_s, total_s)
        lap = Lap(begun, self._planned_s / total_s if beats else 0.0)
        with suppress(_EndedError):
            for beat in beats:
                self.look(beat, lap)
                self._pause(lap)
            self._wait_until(begun + self._planned_s)
        self._lap_s = self.clock() - begun

    def _walk(self) -> None:
        while not self._ended.is_set():
            self.lap()

    def beats(self) -> list[Beat]:
        """Return every look of one lap, in an order drawn anew."""
        used = filter(self._is_used, self.catalog.held())
        beats = [beat for entry in used for beat in self._beats_of(entry)]
        self.random.shuffle(beats)
        return beats

    def look(self, beat: Beat, lap: Lap | None = None) -> None:
        """Hash one tensor where it lies; stop its model if it is not what was verified.

        In a lap, it waits whenever more is hashed than is due.
        """
        entry = beat.entry()
        lap = lap or Lap(self.clock(), 0.0)
        after_s = lap.done_s + beat.cost_s
        if entry is not None and self._is_used(entry):
            try:
                _check(entry, beat.tensor, self._breath(entry, beat, lap))
            except _UnusedError:
                pass
            except ModelStoppedError as error:
                self.stop(entry, error)
        if lap.done_s < after_s:  # what did not breathe: a GPU hashes a tensor in one go
            lap.done_s, lap.stride = after_s, lap.stride + beat.nbytes

    def stop(self, entry: CatalogEntry, error: ModelStoppedError) -> None:
        """Stop a model whose memory was found changed, and put that into the log.

        A log that cannot be written now is written in a later lap: the model is stopped already.
        """
        if self.catalog.stop(entry, error.message, tampered=True):
            with self._telling:
                self._unreported.append((INCIDENT, entry.model_id, error.message))
        self._tell()

    def _tell(self) -> None:
        with suppress(UnavailableError), self._telling:
            while self._unreported:
                self.report(*self._unreported[0])
                del self._unreported[0]

    def _beats_of(self, entry: CatalogEntry) -> Iterator[Beat]:
        resident = entry.loaded.resident
        rate = self.bytes_per_s[entry.loaded.torch_device.type]
        # Held weakly: a model that is unloaded meanwhile gives its memory back.
        held = ref(entry)
        yield Beat(held, "", 0, 1 / rate)
        for tensor in resident.names:
            size = resident.nbytes(tensor)
            # A tensor that is gone still takes a look.
            yield Beat(held, tensor, size, max(size, 1) / rate)

    def _is_used(self, entry: CatalogEntry) -> bool:
        """Whether calls are or can be answered with it: one in flight outlives a revocation."""
        standing = self.catalog.standing(entry)
        is_sold = not standing.stopped and not standing.retired
        return not standing.tampered and (is_sold or standing.leases > 0)

    def _breath(self, entry: CatalogEntry, beat: Beat, lap: Lap) -> Callable[[int], None]:
        """Return what is told of the bytes hashed of a tensor, and waits after each stride."""

        def breathe(count: int) -> None:
            lap.done_s += beat.cost_s * count / beat.nbytes
            lap.stride += count
            self._pause(lap, entry)

        return breathe

    def _pause(self, lap: Lap, entry: CatalogEntry | None = None) -> None:
        if lap.stride >= STRIDE_BYTES:
            lap.stride = 0
            self._wait_until(lap.begun + lap.stretch * lap.done_s, entry)

    def _wait_until(self, due: float, entry: CatalogEntry | None = None) -> None:
        """Wait, unless the patrol ends or nobody uses `entry` any more."""
        while True:
            if self._ended.is_set():
                raise _EndedError
            if entry is not None and not self._is_used(entry):
                raise _UnusedError
            left = due - self.clock()
            if left <= 0:
                return
            self._ended.wait(min(left, _LONGEST_WAIT_S))


def _check(entry: CatalogEntry, tensor: str, breathe: Callable[[int], None]) -> None:
    resident = entry.loaded.resident
    if tensor:
        try:
            resident.check([tensor], breathe)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            # What cannot be hashed is not what was loaded, or does not answer any more.
            text = f"tensor {tensor} cannot be hashed where it lies: {error!r:.200}"
            raise ModelStoppedError(text) from error
        return
    for name in sorted(resident.surplus()):
        raise ModelStoppedError(f"tensor {name} was not there when the model was loaded")
