"""A write that waits for the database's writer, and how its caller is told of its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection


@dataclass(frozen=True)
class Failure:
    """What a write raised."""

    error: BaseException


@dataclass(eq=False)
class PendingWrite:
    """A function that waits for the writer, and the future of its result.

    `loop` is the event loop the future belongs to, None where a thread waits for it. `outcome` is
    the function's result or a `Failure`, known before it may be told.
    """

    function: Callable[[Connection], Any]
    durable: bool
    future: Future[Any] | asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop | None
    outcome: object = None

    def tell(self) -> None:
        """Hand the outcome to whoever still waits for it; on the future's own loop."""
        if self.future.done():
            return
        if isinstance(self.outcome, Failure):
            self.future.set_exception(self.outcome.error)
        else:
            self.future.set_result(self.outcome)


def tell(group: Sequence[PendingWrite]) -> None:
    """Tell each member how it ended, waking each event loop once; this thread's needs no waking."""
    here = asyncio._get_running_loop()
    waiting: dict[asyncio.AbstractEventLoop, list[PendingWrite]] = {}
    for write in group:
        if write.loop is None or write.loop is here:
            write.tell()
        else:
            waiting.setdefault(write.loop, []).append(write)
    for loop, writes in waiting.items():
        with suppress(RuntimeError):  # a loop that was closed waits for nothing
            loop.call_soon_threadsafe(_tell_here, writes)


def _tell_here(writes: Sequence[PendingWrite]) -> None:
    for write in writes:
        write.tell()
