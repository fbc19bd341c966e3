"""SQLite: one file, one writer at a time, one serving process."""

from __future__ import annotations

import fcntl
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from inference import instances
from inference.pending_write import PendingWrite
from inference.prepared import drive
from inference.store import BUSY_TIMEOUT_S, Trouble

_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_POLL_S: Final = 0.02
# Between two times that the log is brought into the file. A paid call changes some eight rows, and
# twelve pages of 4 KiB; rows of large answers take more.
_TIDY_ROWS: Final = 500
_TIDY_BYTES: Final = 4 * 1024 * 1024
# Changes nothing but where a row lies; an UPDATE to the same value would not be written at all.
_SAME_AGAIN: Final = "REPLACE INTO meta SELECT * FROM meta WHERE key = 'node'"


class SqliteStore:
    """An SQLite file; the serving lock sees to it that no other process serves from it."""

    def __init__(self, url: URL) -> None:
        self.shown: Final = f"sqlite:///{url.database}"
        self.reader: Final = _engine(url, writes=False)
        self.instance = ""
        self._writer: Final = _engine(url, writes=True)
        self._path: Final = url.database or ""
        self._log: Final = Path(f"{self._path}-wal")
        # When it was tidied: the rows changed until then on the writer's connection, and its size.
        self._tidied = 0
        self._log_bytes = 0
        # As `_prepare` sets every connection up.
        self._durable = True
        self._patient = True

    def connect(self) -> Connection:
        """Connect the writer."""
        return self._writer.connect()

    def lock_schema(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has."""

    def enter(self, connection: Connection) -> bool:
        """Begin a new instance: nothing is ever in doubt with a file."""
        self.instance = secrets.token_hex(16)
        with connection.begin():
            instances.enter(connection, self.instance)
        return False

    def parts(self, writes: Sequence[PendingWrite]) -> Iterable[Sequence[PendingWrite]]:
        """Return one transaction for all: the lock is taken once."""
        return (writes,)

    @contextmanager
    def transaction(self, connection: Connection, *, durable: bool) -> Iterator[_Transaction]:
        """Begin with the lock; who may lose its fsync is known only now."""
        self.begin(connection, durable=durable)
        transaction = _Transaction(self, connection)
        try:
            yield transaction
            if not transaction.undone:
                self.commit(connection)
        finally:
            self.roll_back(connection)
        if durable and self.is_untidy(connection):
            self.tidy(connection)

    def begin(self, connection: Connection, *, durable: bool, patient: bool = True) -> None:
        """Begin with the lock; who is not `patient` does not wait for another process."""
        if durable != self._durable:
            drive(connection, f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}").close()
            self._durable = durable
        if patient != self._patient:
            wait_ms = int(BUSY_TIMEOUT_S * 1000) if patient else 0
            drive(connection, f"PRAGMA busy_timeout={wait_ms}").close()
            self._patient = patient
        # By the driver itself: SQLAlchemy takes longer to begin and commit than all of it takes.
        drive(connection, "BEGIN IMMEDIATE")

    def commit(self, connection: Connection) -> None:
        """Keep the transaction. Raises `DBAPIError` where there is none any more.

        SQLite undoes it by itself where a statement finds no room, whatever a member makes of that
        statement's error: nobody may be told then that something was kept.
        """
        drive(connection, "COMMIT")
        connection.rollback()  # as below

    def roll_back(self, connection: Connection) -> None:
        """Undo the transaction, unless it was kept."""
        # SQLAlchemy knows of it when a member ran a statement by it; it forgets with this.
        connection.rollback()
        _driver(connection).rollback()

    def changes(self, connection: Connection) -> int:
        """Return how many rows were changed by a connection so far."""
        return int(_driver(connection).total_changes)

    def is_untidy(self, connection: Connection) -> bool:
        """Say whether enough was written since the last time to `tidy`."""
        grown = _bytes(self._log) - self._log_bytes
        return self.changes(connection) - self._tidied >= _TIDY_ROWS or grown >= _TIDY_BYTES

    def tidy(self, connection: Connection) -> None:
        """Bring what is in the log into the file, so that the log can begin anew.

        SQLite would do so by itself in the COMMIT of whoever comes last, on an event loop too, and
        it waits for the disk. It waits again where a log begins: so the next write is done here.
        What goes wrong is tried again the next time; what was committed is in the log.
        """
        with suppress(DBAPIError):
            drive(connection, "PRAGMA wal_checkpoint(PASSIVE)").close()
            drive(connection, _SAME_AGAIN).close()
        self._tidied = self.changes(connection)
        self._log_bytes = _bytes(self._log)

    def trouble(self, error: DBAPIError) -> Trouble:
        """Say what SQLite's result code means."""
        code = int(getattr(error.orig, "sqlite_errorcode", 0)) & 0xFF
        if code in _BUSY:
            return Trouble.BUSY
        return Trouble.FULL if code in _FULL else Trouble.OWN

    def is_dead(self, tx: Connection, instance: str) -> bool:
        """Whoever asks holds the serving lock, so nobody else has work in flight."""
        return instance != self.instance

    @contextmanager
    def exclusive(self, name: str, wait_s: float) -> Iterator[bool]:
        """Lock a file beside the database; the system frees it when the process ends."""
        deadline = time.monotonic() + wait_s
        with Path(f"{self._path}.{name}.lock").open("w") as file:
            while not (taken := _lock(file.fileno())) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
            yield taken

    def close(self) -> None:
        """Let go of every connection."""
        self._writer.dispose()
        self.reader.dispose()


@dataclass
class _Transaction:
    """A transaction of the writer that SQLAlchemy need not know of."""

    store: SqliteStore
    connection: Connection
    undone: bool = False

    def rollback(self) -> None:
        """Undo it."""
        self.undone = True
        self.store.roll_back(self.connection)


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _engine(url: URL, *, writes: bool) -> Engine:
    engine = create_engine(
        url,
        poolclass=NullPool if writes else None,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare)
    if writes:
        event.listen(engine, "connect", _prepare_writer)
    # Readers see one snapshot; the writer takes the lock at once, never half-way.
    event.listen(engine, "begin", _begin_writing if writes else _begin_reading)
    return engine


def _begin_reading(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_writing(connection: Connection) -> None:
    driver: Any = connection.connection.dbapi_connection
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions of its own: savepoints and BEGIN IMMEDIATE are ours.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _prepare_writer(connection: sqlite3.Connection, _record: object) -> None:
    # Neither checkpoints nor what is not committed yet go to the disk by themselves: an event loop
    # would wait for it. `tidy` and COMMIT do that.
    for pragma in ("wal_autocheckpoint=0", "cache_spill=OFF"):
        connection.execute(f"PRAGMA {pragma}").close()
