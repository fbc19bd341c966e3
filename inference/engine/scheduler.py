"""Which sequences compute in the next step: first come, first served, with a bounded queue."""

from __future__ import annotations

from collections import deque
from threading import Lock

from inference.engine.sequence import Sequence
from inference.errors import UnavailableError


class Scheduler:
    """Sequences that wait and sequences that run. Safe to use from several threads.

    At most `max_running` compute at a time and at most `queue_limit` wait.
    """

    def __init__(self, *, queue_limit: int, max_running: int = 1) -> None:
        self._queue_limit = queue_limit
        self._max_running = max_running
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._lock = Lock()

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence. Raises `UnavailableError` when the queue is full."""
        with self._lock:
            if len(self._waiting) >= self._queue_limit:
                raise UnavailableError(
                    f"{len(self._waiting)} calls are waiting already",
                    hint="Try again in a few seconds.",
                )
            self._waiting.append(sequence)

    def schedule(self) -> list[Sequence]:
        """Return the sequences of this step, cancelled ones included so that they can be ended."""
        with self._lock:
            cancelled = [sequence for sequence in self._waiting if sequence.cancelled]
            for sequence in cancelled:
                self._waiting.remove(sequence)
            while self._waiting and len(self._running) < self._max_running:
                self._running.append(self._waiting.popleft())
            return self._running + cancelled

    def drop_finished(self) -> None:
        """Give up the places of sequences that ended."""
        with self._lock:
            self._running = [sequence for sequence in self._running if not sequence.finished]

    def drain(self) -> list[Sequence]:
        """Remove and return everything; used when the engine stops."""
        with self._lock:
            left = [*self._running, *self._waiting]
            self._running, self._waiting = [], deque()
            return left

    @property
    def waiting(self) -> int:
        """Return how many sequences wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Return how many sequences compute."""
        return len(self._running)

    @property
    def idle(self) -> bool:
        """Return whether there is nothing to do."""
        with self._lock:
            return not self._waiting and not self._running
