"""Hashing on several threads: hashlib lets go of the interpreter while it works."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def processors() -> int:
    """Return how many processors this process may use, which containers often limit."""
    return len(os.sched_getaffinity(0))


def parallel_map(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int | None = None
) -> Iterator[Result]:
    """Yield `work(item)` in the order of the items, computed on `threads` threads.

    Items are taken only a few ahead of the results, so a stream of large items stays a stream.
    """
    threads = threads or processors()
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="hashing") as pool:
        ahead: deque[Future[Result]] = deque()
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > 2 * threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            # After an error, or a reader that stopped: what has not begun need not begin.
            for future in ahead:
                future.cancel()
