"""The desk: where an event loop's brief writes are served at once, on its own thread.

To hand a write of a few statements to another thread and its result back takes longer than the
write, and two threads that both run Python stand in each other's way. So the loop runs what waits
itself, as one transaction. Only a COMMIT that waits for the disk is left to a thread, which runs no
Python meanwhile; what is asked for until it returns is the next group.

The loop itself waits neither for the disk nor for another process:

- a disk that takes a second for its fsync delays the answers that depend on it, and whatever asks
  to be written meanwhile, by that second; the loop goes on with everything else. All that may
  fsync is on threads: durable COMMITs, checkpoints, the header of a log that begins anew
  (`SqliteStore.tidy`). What is not durable is handed to the system without waiting.
- a database that another process has locked is not waited for: the group goes to the writer, whose
  thread waits, and comes out with `DatabaseBusyError` when that was in vain;
- a group is short, and so is the time for which it keeps the loop from everything else.

Everything else is the writer's too: a full disk, a member that fails after it changed something.
The group is undone then and handed over, and runs there from the beginning.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from inference.pending_write import Failure, PendingWrite, tell
from inference.sqlite import SqliteStore
from inference.store import DatabaseError, Trouble
from inference.writer import Writer

# A group keeps its loop from everything else for as long as it runs: some 0.2 ms for each member.
_MAX_GROUP: Final = 64


class Desk:
    """Serves one database's brief writes, for any number of event loops."""

    def __init__(self, store: SqliteStore, writer: Writer) -> None:
        """Start; the connection is the writer's, used by one at a time."""
        self._store: Final = store
        self._writer: Final = writer
        self._waiting: Final[deque[PendingWrite]] = deque()
        self._called: asyncio.AbstractEventLoop | None = None
        self._closing: Final = threading.Lock()
        self._closed = False
        self._committing: Final[queue.SimpleQueue[Sequence[PendingWrite] | None]] = (
            queue.SimpleQueue()
        )
        writer.on_free = self._call
        self._thread: Final = threading.Thread(target=self._commit, name="disk", daemon=True)
        self._thread.start()

    def submit(self, write: PendingWrite, loop: asyncio.AbstractEventLoop) -> None:
        """Serve a write as soon as `loop`, which runs now, has taken what else is ready.

        Raises `DatabaseError` once closed.
        """
        with self._closing:
            if self._closed:
                raise DatabaseError("the database is closed")
            self._waiting.append(write)
        if self._called is not loop:
            self._called = loop
            loop.call_soon(self._serve)

    def close(self) -> None:
        """Leave what waits to the writer, and end once the last COMMIT has returned."""
        with self._closing:
            self._closed = True
        # Who has the connection ends first: what it left to the thread must come before the None.
        self._writer.borrow()
        while left := self._take():
            self._hand_over(left)
        self._committing.put(None)
        self._writer.take_back()
        self._thread.join()

    def _serve(self) -> None:
        """Run what waits; what need not be durable first: its callers go on during the COMMIT."""
        self._called = None
        connection = self._writer.lend() if self._waiting else None
        if connection is None:  # whoever has it calls again
            return
        lent = True
        try:
            group = self._take()
            lazy = [write for write in group if not write.durable]
            lasting = [write for write in group if write.durable]
            if lazy:
                self._run(connection, lazy, durable=False)
            if lasting and self._run(connection, lasting, durable=True):
                lent = False
                self._committing.put(lasting)
        finally:
            if lent:
                self._writer.take_back()
                self._call()

    def _run(self, connection: Connection, group: list[PendingWrite], *, durable: bool) -> bool:
        """Run a group's functions in a new transaction; False where that did not go well.

        A durable one is left open, to be committed by the thread.
        """
        store = self._store
        try:
            store.begin(connection, durable=durable, patient=False)
            for write in group:
                before = store.changes(connection)
                try:
                    write.outcome = write.function(connection)
                except BaseException as error:  # carried to the caller, as the writer does
                    if store.changes(connection) != before or self._is_broken(error):
                        raise
                    write.outcome = Failure(error)
            if not durable:
                store.commit(connection)
        except BaseException:  # whatever it was: the writer finds it again, and tells its owner
            try:
                store.roll_back(connection)
            finally:  # even then nobody waits for ever
                self._hand_over(group)
            return False
        if not durable:
            tell(group)
        return True

    def _is_broken(self, error: BaseException) -> bool:
        """Say whether it is the database's failure and no member's own."""
        return isinstance(error, DBAPIError) and self._store.trouble(error) is not Trouble.OWN

    def _commit(self) -> None:
        """Commit one group after the other, and let the loops go on."""
        while (group := self._committing.get()) is not None:
            connection = self._writer.connection
            kept = self._kept(connection)
            if kept and self._store.is_untidy(connection):  # nobody is to wait for that
                tell(group)
                self._store.tidy(connection)
                self._writer.take_back()
            else:
                self._writer.take_back()
                if kept:
                    tell(group)
                else:
                    self._hand_over(group)
            self._call()

    def _kept(self, connection: Connection) -> bool:
        try:
            self._store.commit(connection)
        except BaseException:  # the thread's door: without it all later writes would hang
            self._store.roll_back(connection)
            return False
        return True

    def _call(self) -> None:
        """Have a loop serve what waits, now that the connection is free."""
        with suppress(IndexError):
            loop = self._waiting[0].loop
            if loop is not None and loop.is_running():
                with suppress(RuntimeError):  # it was closed in this moment
                    loop.call_soon_threadsafe(self._serve)
                    return
            # It was stopped; its writes are tried all the same.
            self._hand_over(self._take())

    def _take(self) -> list[PendingWrite]:
        group: list[PendingWrite] = []
        with suppress(IndexError):
            while len(group) < _MAX_GROUP:
                group.append(self._waiting.popleft())
        return group

    def _hand_over(self, group: Sequence[PendingWrite]) -> None:
        for write in group:
            try:
                self._writer.submit(write)
            except DatabaseError as error:  # closed meanwhile
                write.outcome = Failure(error)
                tell([write])
