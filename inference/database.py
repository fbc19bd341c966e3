"""The one door to the node's database: one writer, many readers, answers only after the disk.

Everything durable goes through `write`. Functions that wait together share one transaction and
one fsync (group commit), each inside its own savepoint, so that one that fails undoes itself
alone; a result leaves only after COMMIT returned. No state lives in memory: a second process may
have the same file open.

A write that is not `durable` is committed like any other and survives the end of the process,
however it ends. Only its fsync is left to the next durable one, which brings everything before it
to the disk as well: a power cut loses the last of them, never one from the middle. It is for what
is worth nothing without a later durable write, as a reservation is without its charge.

A write, once asked for, is tried whatever becomes of the caller: a cancelled task stops waiting,
it does not stop the write.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, insert, select
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from inference import schema
from inference.errors import UnavailableError
from inference.migrations.upgrade import upgrade
from inference.pending_write import Failure, PendingWrite, tell
from inference.prepared import drive
from registry.errors import ConfigError

T = TypeVar("T")

# How long one process waits for another's transaction before it answers 503.
BUSY_TIMEOUT_S: Final = 5.0
# A longer group would make its first member wait for the last one's work.
MAX_GROUP: Final = 256

_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class DatabaseError(UnavailableError):
    """The database did not do what it was asked; nothing was changed."""

    code = "database_unavailable"


class DatabaseBusyError(DatabaseError):
    """Another process holds the database."""


class DatabaseFullError(DatabaseError):
    """The disk is full, failed, or does not let itself be written."""


class Database:
    """The node's database. One instance a process; safe to use from all its threads."""

    def __init__(self, url: str, *, chain_id: int, channels: str, node: str) -> None:
        """Open `url` (sqlite:///path), bring its schema up to date, and check whose it is.

        `channels` is the channels contract's address, `node` the node's. Raises `ConfigError`
        for a database that belongs to another chain, contract or node.
        """
        self._writer: Final = _engine(url, writes=True)
        self._reader: Final = _engine(url, writes=False)
        self._queue: Final[queue.SimpleQueue[PendingWrite | None]] = queue.SimpleQueue()
        self._closing: Final = threading.Lock()
        self._closed = False
        self._durable = True  # as `_prepare` sets every connection up
        facts = {"chain_id": str(chain_id), "channels": channels, "node": node}
        with _open_errors(url):
            self._connection: Final = self._writer.connect()
            with _closed_on_failure(self._connection), self._connection.begin():
                upgrade(self._connection)
                _check_owner(self._connection, facts)
        self._thread: Final = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()

    def write(self, function: Callable[[Connection], T], *, durable: bool = True) -> Awaitable[T]:
        """Run `function` in a transaction; the result is awaitable once it is on disk.

        Without `durable` it is awaitable once it is committed, and on disk with the next durable
        write. Call it from a running event loop. What `function` raises undoes its own changes and
        comes out of the awaitable; so do `DatabaseBusyError` and `DatabaseFullError`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._submit(PendingWrite(function, durable, future, loop))
        return future

    def write_now(self, function: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Like `write`, for threads without an event loop: waits for the result."""
        future: Future[T] = Future()
        self._submit(PendingWrite(function, durable, future, None))
        return future.result()

    def read(self, function: Callable[[Connection], T]) -> T:
        """Run `function` on a snapshot, in the caller's thread. It must not write."""
        with _errors(), self._reader.connect() as connection, connection.begin():
            return function(connection)

    def close(self) -> None:
        """Finish the writes that were asked for, then close. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._connection.close()
        self._writer.dispose()
        self._reader.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(self, write: PendingWrite) -> None:
        with self._closing:
            if self._closed:
                raise DatabaseError("the database is closed")
            self._queue.put(write)

    def _serve(self) -> None:
        group: list[PendingWrite] = []
        while (write := self._queue.get()) is not None:
            group = [write]
            last = False
            while len(group) < MAX_GROUP and not last and not self._queue.empty():
                more = self._queue.get()
                last = more is None
                if more is not None:
                    group.append(more)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[PendingWrite]) -> None:
        """Run the group in one transaction and tell each member how it ended."""
        try:
            durable = any(write.durable for write in group)
            with _errors(), self._begin(durable=durable) as transaction:
                if len(group) > 1:
                    for write in group:
                        write.outcome = self._run(write)
                elif isinstance(self._run_alone(group[0]), Failure):
                    transaction.rollback()
        except BaseException as error:  # the thread's door: without it all later writes would hang
            # The transaction is gone, whatever the members' own functions had returned.
            for write in group:
                write.outcome = Failure(error)
        tell(group)

    def _begin(self, *, durable: bool) -> RootTransaction:
        """Begin a transaction whose COMMIT waits for the disk, or leaves that to a later one."""
        sqlite = self._connection.dialect.name == "sqlite"
        # SQLite takes it between transactions only, PostgreSQL within one.
        if sqlite and durable != self._durable:
            drive(self._connection, f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}").close()
            self._durable = durable
        transaction = self._connection.begin()
        if not sqlite and not durable:
            drive(self._connection, "SET LOCAL synchronous_commit TO OFF")
        return transaction

    def _run_alone(self, write: PendingWrite) -> object:
        """Run the only member: the whole transaction is its savepoint."""
        try:
            write.outcome = write.function(self._connection)
        except BaseException as error:  # carried to the caller, as concurrent.futures does
            _raise_if_broken(error)
            write.outcome = Failure(error)
        return write.outcome

    def _run(self, write: PendingWrite) -> object:
        """Run one member in its savepoint; only a failure of the database itself is raised."""
        drive(self._connection, "SAVEPOINT member")
        try:
            result = write.function(self._connection)
            drive(self._connection, "RELEASE SAVEPOINT member")
        except BaseException as error:  # carried to the caller, as concurrent.futures does
            _raise_if_broken(error)
            drive(self._connection, "ROLLBACK TO SAVEPOINT member")
            drive(self._connection, "RELEASE SAVEPOINT member")
            return Failure(error)
        return result


def _raise_if_broken(error: BaseException) -> None:
    """Raise what is no member's own failure but the database's: the whole group ends with it."""
    if isinstance(error, DBAPIError) and _code(error) in _FULL | _BUSY:
        raise error


def _check_owner(connection: Connection, facts: Mapping[str, str]) -> None:
    """Write whose database this is, or compare. Raises `ConfigError` naming both owners."""
    known = {row.key: row.value for row in connection.execute(select(schema.meta))}
    for key, value in facts.items():
        if key not in known:
            connection.execute(insert(schema.meta).values(key=key, value=value))
        elif known[key] != value:
            raise ConfigError(
                f"this database belongs to {key} {known[key]}, the configuration says {value}",
                hint="name another database file, or the chain and key it was made with",
            )


def _engine(url: str, *, writes: bool) -> Engine:
    try:
        if not url.startswith("sqlite:"):
            return create_engine(url)
        engine = create_engine(
            url,
            poolclass=NullPool if writes else None,
            connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
        )
    except (ArgumentError, ImportError) as error:
        raise ConfigError(
            f"{url.split('@')[-1]!r} is not a database we can open: {type(error).__name__}",
            hint="write sqlite:///folder/node.db",
        ) from error
    event.listen(engine, "connect", _prepare)
    # Readers see one snapshot; the writer takes the lock at once, never half-way.
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions of its own: savepoints and BEGIN IMMEDIATE are ours.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _code(error: DBAPIError) -> int:
    """Return SQLite's primary result code, 0 for other databases."""
    return int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF


@contextmanager
def _errors() -> Iterator[None]:
    """Turn what the driver raises into our errors."""
    try:
        yield
    except DBAPIError as error:
        if _code(error) in _BUSY:
            raise DatabaseBusyError(
                "the database is in use by another process", hint="try again"
            ) from error
        if _code(error) in _FULL:
            raise DatabaseFullError(
                "the database cannot be written", hint="free some space on its disk"
            ) from error
        raise DatabaseError(f"the database refused: {error.orig}") from error


@contextmanager
def _closed_on_failure(connection: Connection) -> Iterator[None]:
    with ExitStack() as stack:
        stack.callback(connection.close)
        yield
        stack.pop_all()


@contextmanager
def _open_errors(url: str) -> Iterator[None]:
    try:
        with _errors():
            yield
    except DatabaseBusyError:
        raise
    except DatabaseError as error:
        raise ConfigError(
            f"cannot open the database {url.split('@')[-1]}: {error.message}",
            hint="check the path, its folder and their permissions",
        ) from error
