"""The thread that owns a model: all of its computing happens there, one job after another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from inference.errors import UnavailableError

Result = TypeVar("Result")


class Worker:
    """One thread that does jobs in the order in which they come, until it is closed."""

    def __init__(self, name: str, *, threads: int) -> None:
        """Name the thread; `threads` is how many processors one operation of torch may use."""
        self._closing = False
        # torch keeps the number of threads for each thread that calls it.
        self._pool = ThreadPoolExecutor(
            1, thread_name_prefix=name, initializer=torch.set_num_threads, initargs=(threads,)
        )

    def call(self, job: Callable[[], Result]) -> Future[Result]:
        """Do `job` on the thread; the future has its result or what it raised.

        Raises `UnavailableError` when the worker is closed; a job that was queued before that
        and had not begun ends with the same error.
        """

        def run() -> Result:
            if self._closing:
                raise UnavailableError("this model's engine was stopped")
            return job()

        try:
            return self._pool.submit(run)
        except RuntimeError as error:  # how the pool says that it was shut down
            raise UnavailableError("this model's engine was stopped") from error

    def close(self) -> None:
        """End the thread after the job it is in. May be called twice."""
        self._closing = True
        self._pool.shutdown(wait=True)
