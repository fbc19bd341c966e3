"""The one door to the node's database: one writer, many readers, answers only after the disk.

Everything durable goes through `write`. Functions that wait together share one transaction and
one fsync (group commit), each inside its own savepoint, so that one that fails undoes itself
alone; a result leaves only after COMMIT returned. No state lives in memory: a second process may
have the same database open. A function may run more than once before one of its runs is kept.

A write that is not `durable` is committed like any other and survives the end of the process,
however it ends. Only its fsync is left to the next durable one, which brings everything before it
to the disk as well: a power cut loses the last of them, never one from the middle. It is for what
is worth nothing without a later durable write, as a reservation is without its charge.

A write, once asked for, is tried whatever becomes of the caller: a cancelled task stops waiting,
it does not stop the write. Where the connection is lost at COMMIT, nobody is told anything before
the database has said whether it was kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from math import inf
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, insert, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from inference import schema
from inference.desk import Desk
from inference.migrations.upgrade import upgrade
from inference.pending_write import PendingWrite
from inference.postgres import PostgresStore
from inference.sqlite import SqliteStore
from inference.store import (
    BUSY_TIMEOUT_S,
    DatabaseBusyError,
    DatabaseError,
    DatabaseFullError,
    DatabaseUnknownError,
    LockTakenError,
    Store,
    database_error,
)
from inference.writer import Writer
from registry.errors import ConfigError

__all__ = (
    "Database",
    "DatabaseBusyError",
    "DatabaseError",
    "DatabaseFullError",
    "DatabaseUnknownError",
    "LockTakenError",
)

T = TypeVar("T")

# Seconds between two tries of a write that must not be given up: at first, and at the most.
_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 16.0


class Database:
    """The node's database. One instance a process; safe to use from all its threads."""

    def __init__(self, url: str, *, chain_id: int, channels: str, node: str) -> None:
        """Open `url`, bring its schema up to date, and check whose it is.

        It is sqlite:///path or postgresql://user:password@host/name. `channels` is the channels
        contract's address, `node` the node's. Raises `ConfigError` for a database that belongs to
        another chain, contract or node.
        """
        self._store: Final = _store(url)
        # The event loop alone would let go of them.
        self._insisted: Final[set[asyncio.Future[Any]]] = set()
        facts = {"chain_id": str(chain_id), "channels": channels, "node": node}
        try:
            with self._open_errors():
                with self._store.connect() as connection, connection.begin():
                    self._store.lock_schema(connection)
                    upgrade(connection)
                    _check_owner(connection, facts)
                self._writer: Final = Writer(self._store)
            self._desk: Final = (
                Desk(self._store, self._writer) if isinstance(self._store, SqliteStore) else None
            )
        except BaseException:
            self._store.close()
            raise

    @property
    def instance(self) -> str:
        """Under whose name this process has work in flight, as `inference.instances` says."""
        return self._store.instance

    def write(
        self, function: Callable[[Connection], T], *, durable: bool = True, brief: bool = False
    ) -> Awaitable[T]:
        """Run `function` in a transaction; the result is awaitable once it is on disk.

        Without `durable` it is awaitable once it is committed, and on disk with the next durable
        write; it may touch one channel only. What is `brief`, a few statements and no waiting, may
        run on the event loop itself. Call it from a running event loop. What `function` raises
        undoes its own changes and comes out of the awaitable; so do `DatabaseError`, with which
        nothing was changed, and `DatabaseUnknownError`.
        """
        return self._write(function, durable=durable, brief=brief)

    def _write(
        self, function: Callable[[Connection], T], *, durable: bool, brief: bool
    ) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        write = PendingWrite(function, durable, future, loop)
        if brief and self._desk is not None:
            self._desk.submit(write, loop)
        else:
            self._writer.submit(write)
        return future

    def insist(
        self, function: Callable[[Connection], T], *, for_s: float = inf, brief: bool = False
    ) -> asyncio.Future[T]:
        """Like `write`, again and again while the database is in use, full or away.

        For what cannot be undone any more, such as money that moved; it is gone on with if nobody
        waits for it. Comes out with `DatabaseError` after `for_s` seconds.
        """
        loop, deadline = asyncio.get_running_loop(), time.monotonic() + for_s
        result: asyncio.Future[T] = loop.create_future()

        def ended(first: asyncio.Future[T]) -> None:
            error = first.exception()
            if isinstance(error, DatabaseError) and time.monotonic() + _PAUSE_S <= deadline:
                trying = loop.create_task(self._try(function, deadline, brief))
                self._insisted.add(trying)
                trying.add_done_callback(self._insisted.discard)
                trying.add_done_callback(lambda last: _pass_on(last, result))
            else:
                _pass_on(first, result)

        # Nearly always the first try is the last one: a task for it would cost as much.
        self._write(function, durable=True, brief=brief).add_done_callback(ended)
        return result

    def write_now(self, function: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Like `write`, for threads without an event loop: waits for the result."""
        future: Future[T] = Future()
        self._writer.submit(PendingWrite(function, durable, future, None))
        return future.result()

    async def _try(self, function: Callable[[Connection], T], deadline: float, brief: bool) -> T:
        """Try again after a pause, until the monotonic second `deadline`."""
        pause = _PAUSE_S
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_S)
            try:
                return await self.write(function, brief=brief)
            except DatabaseError:
                if time.monotonic() + pause > deadline:
                    raise

    def read(self, function: Callable[[Connection], T]) -> T:
        """Run `function` on a snapshot, in the caller's thread. It must not write."""
        with self._errors(), self._store.reader.connect() as connection, connection.begin():
            return function(connection)

    def is_dead(self, tx: Connection, instance: str) -> bool:
        """Say for certain whether the process of another instance is gone, until `tx` ends.

        While `tx` lasts no other process hears the same.
        """
        return self._store.is_dead(tx, instance)

    @contextmanager
    def exclusive(self, name: str, *, wait_s: float = BUSY_TIMEOUT_S) -> Iterator[None]:
        """Hold the lock `name`, which one thread of all nodes has at a time.

        The system frees it when this process ends. Raises `LockTakenError` when another keeps it
        for `wait_s` seconds.
        """
        with self._errors(), self._store.exclusive(name, wait_s) as taken:
            if not taken:
                raise LockTakenError(f"another process is at {name}", hint="try again")
            yield

    def close(self) -> None:
        """Finish the writes that were asked for, then close. May be called twice."""
        if self._desk is not None:
            self._desk.close()
        if self._writer.close():
            self._store.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the driver raises into our errors."""
        try:
            yield
        except DBAPIError as error:
            raise database_error(error, self._store.trouble(error)) from error

    @contextmanager
    def _open_errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            ours = database_error(error, self._store.trouble(error))
            if isinstance(ours, DatabaseBusyError):
                raise ours from error
            # The driver's words name the server and the user, never the password.
            why = " ".join(str(error.orig).split()) or ours.message
            raise ConfigError(
                f"cannot open the database {self._store.shown}: {why}",
                hint="check its address, its folder or server, and their permissions",
            ) from error


def _pass_on(ended: asyncio.Future[T], waiting: asyncio.Future[T]) -> None:
    """Tell whoever waits, if anybody still does."""
    error = None if ended.cancelled() else ended.exception()
    if waiting.done():
        return
    if ended.cancelled():
        waiting.cancel()
    elif error is not None:
        waiting.set_exception(error)
    else:
        waiting.set_result(ended.result())


def _store(url: str) -> Store:
    scheme = url.partition(":")[0]
    hint = "write sqlite:///folder/node.db or postgresql://user:password@host/name"
    try:
        # The short form that many hosts hand out.
        address = make_url(url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError) as error:
        # What cannot be read may hold a password anywhere.
        raise ConfigError(f"this {scheme} address cannot be read", hint=hint) from error
    if "@" in (address.host or ""):
        raise ConfigError("the database's address has two @", hint="write %40 in the password")
    if address.drivername == "sqlite":
        return SqliteStore(address)
    if address.drivername == "postgresql":
        return PostgresStore(address)
    raise ConfigError(f"{scheme!r} is not a database we can open", hint=hint)


def _check_owner(connection: Connection, facts: Mapping[str, str]) -> None:
    """Write whose database this is, or compare. Raises `ConfigError` naming both owners."""
    known = {row.key: row.value for row in connection.execute(select(schema.meta))}
    for key, value in facts.items():
        if key not in known:
            connection.execute(insert(schema.meta).values(key=key, value=value))
        elif known[key] != value:
            raise ConfigError(
                f"this database belongs to {key} {known[key]}, the configuration says {value}",
                hint="name another database, or the chain and key it was made with",
            )
