"""The writer: one thread and one connection through which everything is written.

The connection is used by one at a time: by the thread, or by whom it is lent to (`desk`).

What waits is run as a group, in one transaction. When the connection is lost, a group that was
surely not kept runs again on the next one; of a COMMIT that nobody answered the database is asked
first, for as long as it takes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from inference.pending_write import Failure, PendingWrite, tell
from inference.prepared import drive
from inference.store import DatabaseError, DatabaseUnknownError, Store, Trouble, database_error

# A longer group would make its first member wait for the last one's work.
MAX_GROUP: Final = 256
# How often a transaction runs when other processes or a lost connection are in its way.
_TRIES: Final = 4
# Between tries to reach a database that went away in the middle of a COMMIT.
_RECONNECT_S: Final = 0.5


class _InDoubtError(Exception):
    """A COMMIT was sent and not answered."""


class Writer:
    """Writes to one database; begins at once, as an instance of its own."""

    def __init__(self, store: Store) -> None:
        """Connect, and start the thread. Raises `DBAPIError`."""
        self._store: Final = store
        self._queue: Final[queue.SimpleQueue[PendingWrite | None]] = queue.SimpleQueue()
        self._closing: Final = threading.Lock()
        # Held by whoever uses the connection; the thread goes before those it is lent to.
        self._in_use: Final = threading.Lock()
        self._wanted = False
        # Called when the thread has used the connection, by the thread.
        self.on_free: Callable[[], None] = lambda: None
        self._closed = False
        self._ending = False
        self._connection: Connection | None = None
        self._reconnect()
        self._thread: Final = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()

    def submit(self, write: PendingWrite) -> None:
        """Queue a write; it will be told how it ended. Raises `DatabaseError` once closed."""
        with self._closing:
            if self._closed:
                raise DatabaseError("the database is closed")
            self._queue.put(write)

    @property
    def connection(self) -> Connection:
        """The connection, for whom it is lent to. Raises `DatabaseError` where there is none."""
        if self._connection is None:
            raise DatabaseError("the database cannot be reached")
        return self._connection

    def lend(self) -> Connection | None:
        """Lend the connection until `take_back`; None where it is in use or wanted."""
        if self._wanted or not self._in_use.acquire(blocking=False):
            return None
        if self._connection is None:
            self._in_use.release()
        return self._connection

    def borrow(self) -> None:
        """Wait for the connection, to keep it from everybody else until `take_back`."""
        self._in_use.acquire()

    def take_back(self) -> None:
        """Take back what was lent; on any thread."""
        self._in_use.release()

    def close(self) -> bool:
        """Finish what was submitted, then disconnect; False when that was done before."""
        with self._closing:
            if self._closed:
                return False
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        with self._in_use:
            self._disconnect()
        return True

    def _serve(self) -> None:
        while not self._ending:
            for part in self._store.parts(self._waiting(block=True)):
                self._wanted = True
                with self._in_use:
                    self._wanted = False
                    self._commit(part)
                self.on_free()

    def _waiting(self, *, block: bool) -> list[PendingWrite]:
        """Take what waits from the queue, or wait for it; notes when nothing more will come."""
        group: list[PendingWrite] = []
        while len(group) < MAX_GROUP and not self._ending:
            if self._queue.empty() and (group or not block):
                break
            write = self._queue.get()
            if write is None:
                self._ending = True
            else:
                group.append(write)
        return group

    def _commit(self, group: Sequence[PendingWrite]) -> None:
        """Run the group in one transaction and tell each member how it ended."""
        try:
            self._keep(group)
        except BaseException as error:  # the thread's door: without it all later writes would hang
            # The transaction is gone, whatever the members' own functions had returned.
            ours = self._ours(error)
            for write in group:
                write.outcome = Failure(ours)
        tell(group)

    def _keep(self, group: Sequence[PendingWrite]) -> None:
        """Run the group until it is kept, or it is certain that it will not be."""
        for left in reversed(range(_TRIES)):
            try:
                self._run_group(group, last=not left)
                return
            except _InDoubtError:
                if self._was_kept():
                    return
            except DBAPIError as error:
                trouble = self._store.trouble(error)
                # Without a connection it was the new one that failed: others wait meanwhile.
                lost = trouble is Trouble.GONE and self._connection is not None
                if lost:
                    self._disconnect()
                if not left or not (lost or trouble in (Trouble.AGAIN, Trouble.TAKEN)):
                    raise

    def _run_group(self, group: Sequence[PendingWrite], *, last: bool) -> None:
        durable = any(write.durable for write in group)
        connection, committing = self._connection or self._reconnect()[0], False
        try:
            with self._store.transaction(connection, durable=durable) as transaction:
                if len(group) > 1:
                    for write in group:
                        write.outcome = self._run(connection, write, last=last)
                    committing = True
                elif isinstance(self._run_alone(connection, group[0], last=last), Failure):
                    transaction.rollback()
                else:
                    committing = True
        except DBAPIError as error:
            if committing and self._store.trouble(error) is Trouble.GONE:
                raise _InDoubtError from error
            raise

    def _run_alone(self, connection: Connection, write: PendingWrite, *, last: bool) -> object:
        """Run the only member: the whole transaction is its savepoint."""
        try:
            write.outcome = write.function(connection)
        except BaseException as error:  # carried to the caller, as concurrent.futures does
            self._raise_if_broken(error, last=last)
            write.outcome = Failure(error)
        return write.outcome

    def _run(self, connection: Connection, write: PendingWrite, *, last: bool) -> object:
        """Run one member in its savepoint; only a failure of the database itself is raised."""
        drive(connection, "SAVEPOINT member")
        try:
            result = write.function(connection)
            drive(connection, "RELEASE SAVEPOINT member")
        except BaseException as error:  # carried to the caller, as concurrent.futures does
            self._raise_if_broken(error, last=last)
            drive(connection, "ROLLBACK TO SAVEPOINT member")
            drive(connection, "RELEASE SAVEPOINT member")
            return Failure(error)
        return result

    def _raise_if_broken(self, error: BaseException, *, last: bool) -> None:
        """Raise what is no member's own failure but the database's: the whole group ends with it.

        A row that was `TAKEN` is seen by the next try; in the `last` one it is the member's own.
        """
        if isinstance(error, DBAPIError):
            trouble = self._store.trouble(error)
            if trouble is not Trouble.OWN and not (last and trouble is Trouble.TAKEN):
                raise error

    def _was_kept(self) -> bool:
        """Find out what became of a COMMIT that nobody answered.

        As long as the database cannot be reached, everything else is turned away.
        """
        while True:
            try:
                return self._reconnect()[1]
            except DBAPIError as error:
                if self._ending:
                    raise DatabaseUnknownError(
                        "the database went away while it was committing"
                    ) from error
            turned_away = self._waiting(block=False)
            for write in turned_away:
                write.outcome = Failure(DatabaseError("the database cannot be reached"))
            tell(turned_away)
            time.sleep(_RECONNECT_S)

    def _reconnect(self) -> tuple[Connection, bool]:
        """Connect the writer; say whether the last transaction begun before was kept."""
        self._disconnect()
        connection = self._store.connect()
        try:
            kept = self._store.enter(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection, kept

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _ours(self, error: BaseException) -> BaseException:
        if not isinstance(error, DBAPIError):
            return error
        ours = database_error(error, self._store.trouble(error))
        ours.__cause__ = error
        return ours
