"""A team: threads that enter a kernel together."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias

# A kernel that takes the number of its thread and the size of the team.
Kernel: TypeAlias = Callable[[int, int], Any]


class Team:
    """`size` threads, the caller's own among them."""

    def __init__(self, name: str, size: int) -> None:
        self.size = size
        self._calls: list[SimpleQueue[Kernel | None]] = [SimpleQueue() for _ in range(size - 1)]
        self._threads = [
            Thread(target=self._serve, args=(number, calls), name=f"{name}-{number}", daemon=True)
            for number, calls in enumerate(self._calls, start=1)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, kernel: Kernel) -> None:
        """Call `kernel(number, size)` on every thread at once.

        It returns when the caller's own thread is done; the kernel's last barrier says that the
        others are.
        """
        for calls in self._calls:
            calls.put(kernel)
        kernel(0, self.size)

    def close(self) -> None:
        """End the threads, after what they are in. May be called twice."""
        for calls in self._calls:
            calls.put(None)
        for thread in self._threads:
            thread.join()

    def _serve(self, number: int, calls: SimpleQueue[Kernel | None]) -> None:
        while (kernel := calls.get()) is not None:
            kernel(number, self.size)
