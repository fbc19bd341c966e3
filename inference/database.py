"""The one door to the node's database: one writer, many readers, answers only after the disk.

Everything durable goes through `write`. Functions that wait together share one transaction and
one fsync (group commit), each inside its own savepoint, so that one that fails undoes itself
alone; a result leaves only after COMMIT returned. No state lives in memory: a second process may
have the same file open.

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
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from inference import schema
from inference.errors import UnavailableError
from inference.migrations.upgrade import upgrade
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


@dataclass
class _Work:
    """A function that waits for the writer, and the future of its result."""

    function: Callable[[Connection], Any]
    future: Future[Any]
    outcome: object = None


class Database:
    """The node's database. One instance a process; safe to use from all its threads."""

    def __init__(self, url: str, *, chain_id: int, channels: str, node: str) -> None:
        """Open `url` (sqlite:///path), bring its schema up to date, and check whose it is.

        `channels` is the channels contract's address, `node` the node's. Raises `ConfigError`
        for a database that belongs to another chain, contract or node.
        """
        self._writer: Final = _engine(url, writes=True)
        self._reader: Final = _engine(url, writes=False)
        self._queue: Final[queue.SimpleQueue[_Work | None]] = queue.SimpleQueue()
        self._closing: Final = threading.Lock()
        self._closed = False
        facts = {"chain_id": str(chain_id), "channels": channels, "node": node}
        with _open_errors(url):
            self._connection: Final = self._writer.connect()
            with _closed_on_failure(self._connection), self._connection.begin():
                upgrade(self._connection)
                _check_owner(self._connection, facts)
        self._thread: Final = threading.Thread(target=self._serve, name="database", daemon=True)
        self._thread.start()

    def write(self, function: Callable[[Connection], T]) -> Awaitable[T]:
        """Run `function` in a transaction; the result is awaitable once it is on disk.

        Call it from a running event loop. What `function` raises undoes its own changes and comes
        out of the awaitable; so do `DatabaseBusyError` and `DatabaseFullError`.
        """
        return asyncio.wrap_future(self._submit(function))

    def write_now(self, function: Callable[[Connection], T]) -> T:
        """Like `write`, for threads without an event loop: waits for the result."""
        return self._submit(function).result()

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

    def _submit(self, function: Callable[[Connection], T]) -> Future[T]:
        future: Future[T] = Future()
        # Running from the start: a caller that goes away cannot cancel what it asked for.
        future.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                raise DatabaseError("the database is closed")
            self._queue.put(_Work(function, future))
        return future

    def _serve(self) -> None:
        group: list[_Work] = []
        while (work := self._queue.get()) is not None:
            group = [work]
            last = False
            while len(group) < MAX_GROUP and not last and not self._queue.empty():
                more = self._queue.get()
                last = more is None
                if more is not None:
                    group.append(more)
            self._commit(group)
            if last:
                return

    def _commit(self, group: list[_Work]) -> None:
        """Run the group in one transaction and tell each member how it ended."""
        try:
            with _errors(), self._connection.begin():
                for work in group:
                    work.outcome = self._run(work)
        except BaseException as error:  # the thread's door: without it all later writes would hang
            # The transaction is gone, whatever the members' own functions had returned.
            for work in group:
                work.future.set_exception(error)
            return
        for work in group:
            if isinstance(work.outcome, _Failure):
                work.future.set_exception(work.outcome.error)
            else:
                work.future.set_result(work.outcome)

    def _run(self, work: _Work) -> object:
        """Run one member in its savepoint; only a failure of the database itself is raised."""
        savepoint = self._connection.begin_nested()
        try:
            result = work.function(self._connection)
            savepoint.commit()
        except BaseException as error:  # carried to the caller, as concurrent.futures does
            if isinstance(error, DBAPIError) and _code(error) in _FULL | _BUSY:
                raise
            savepoint.rollback()
            return _Failure(error)
        return result


@dataclass(frozen=True)
class _Failure:
    error: BaseException


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
