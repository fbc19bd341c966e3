"""PostgreSQL: several nodes on one database, none of which may stop or overtake another.

**Who lives.** The writer's session holds an advisory lock on its instance. The server frees it when
the session ends, and whatever that session had not committed ends with it. So a lock that can be
had proves that its holder is gone, and what a session commits was never another's to end.

**What was kept.** Each transaction writes its number into its instance's row. After a COMMIT that
nobody answered, the next session waits for that lock, which is the end of the old one, and reads
the number: what was kept is told as kept, what was not runs again.

**No deadlock.** Durable writes take turns, over all nodes: most of them append to the log, where
each entry is signed over the one before it. They may lock any rows in any order. What is not
durable runs beside them, one channel to a transaction.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, RootTransaction, create_engine, event, select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from inference import instances, schema
from inference.pending_write import PendingWrite
from inference.prepared import drive
from inference.store import BUSY_TIMEOUT_S, Trouble

# The server keeps up to 64 savepoints of a transaction at hand; more slow everybody down.
_MAX_GROUP: Final = 64
_CONNECT: Final = {
    "application_name": "weightproof",
    "client_encoding": "utf8",
    "connect_timeout": 5,
    # A server that vanished is noticed within 20 seconds; times in seconds, the last in ms.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_SETTINGS: Final = {
    "lock_timeout": f"{BUSY_TIMEOUT_S:.0f}s",
    # A process that hangs within a transaction must not hold up the other nodes for ever.
    "idle_in_transaction_session_timeout": "30s",
    "idle_session_timeout": "0",
    "statement_timeout": "0",
    # The server's side of a node that vanished.
    "client_connection_check_interval": "1s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_TURN: Final = "turn"
# One statement each, so that they cost one round trip: the mark, and the turn or the lazy COMMIT.
_MARK: Final = "UPDATE instances SET mark = %s WHERE id = %s RETURNING "
_MARK_IN_TURN: Final = _MARK + "pg_advisory_xact_lock(%s)"
_MARK_LAZILY: Final = _MARK + "set_config('synchronous_commit', 'off', true)"

_GONE: Final = ("08", "57P", "25P03", "53300")
_AGAIN: Final = ("40001", "40P01")
_TAKEN: Final = ("23505",)
_BUSY: Final = ("55P03", "57014")
_FULL: Final = ("53", "58", "25006")


class PostgresStore:
    """A PostgreSQL database, shared with other nodes."""

    def __init__(self, url: URL) -> None:
        self.shown: Final = f"postgresql://{url.host or ''}/{url.database or ''}"
        self.reader: Final = _engine(url, writes=False)
        self.instance = ""
        self._writer: Final = _engine(url, writes=True)
        self._mark = 0

    def connect(self) -> Connection:
        """Connect the writer."""
        return self._writer.connect()

    def lock_schema(self, connection: Connection) -> None:
        """Take the turn: nobody migrates or writes beside us."""
        drive(connection, "SELECT pg_advisory_xact_lock(%s)", (_key(_TURN),))

    def enter(self, connection: Connection) -> bool:
        """Hold the lock of the instance we were, or of a new one where that was ended."""
        table, instance, kept = schema.instances, self.instance, False
        with connection.begin():
            if instance:
                _hold(connection, instance)  # until the session before this one has ended
                row = connection.execute(select(table).where(table.c.id == instance)).first()
                kept = row is not None and row.mark == self._mark
                if row is None or row.ended_at:
                    instance = ""
            if not instance:
                instance = secrets.token_hex(16)
                _hold(connection, instance)
                instances.enter(connection, instance)
            instances.bind(connection, instance)
        self.instance = instance
        return kept

    def parts(self, writes: Sequence[PendingWrite]) -> Iterable[Sequence[PendingWrite]]:
        """Return what is not durable one by one, then what is in groups."""
        yield from ((write,) for write in writes if not write.durable)
        durable = [write for write in writes if write.durable]
        for first in range(0, len(durable), _MAX_GROUP):
            yield durable[first : first + _MAX_GROUP]

    @contextmanager
    def transaction(self, connection: Connection, *, durable: bool) -> Iterator[RootTransaction]:
        """Begin with the mark; what is durable waits for its turn."""
        with connection.begin() as transaction:
            self._mark += 1
            if durable:
                drive(connection, _MARK_IN_TURN, (self._mark, self.instance, _key(_TURN)))
            else:
                drive(connection, _MARK_LAZILY, (self._mark, self.instance))
            yield transaction

    def trouble(self, error: DBAPIError) -> Trouble:
        """Say what an SQLSTATE means."""
        state = getattr(error.orig, "sqlstate", None)
        if state is None:  # the client's own: it cannot talk to the server, or the words were wrong
            cut = isinstance(error, OperationalError | InterfaceError)
            return Trouble.GONE if cut else Trouble.OWN
        for starts, trouble in (
            (_GONE, Trouble.GONE),
            (_AGAIN, Trouble.AGAIN),
            (_TAKEN, Trouble.TAKEN),
            (_BUSY, Trouble.BUSY),
            (_FULL, Trouble.FULL),
        ):
            if state.startswith(starts):
                return trouble
        return Trouble.OWN

    def is_dead(self, tx: Connection, instance: str) -> bool:
        """Try the instance's lock: who has it lives."""
        found = drive(tx, "SELECT pg_try_advisory_xact_lock(%s)", (_key(instance),)).fetchone()
        return bool(found[0])

    @contextmanager
    def exclusive(self, name: str, wait_s: float) -> Iterator[bool]:
        """Lock with a session of its own, so that the lock goes when this process does."""
        with self._writer.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            yield self._taken(connection, _key(f"lock {name}"), wait_s)

    def close(self) -> None:
        """Let go of every connection."""
        self._writer.dispose()
        self.reader.dispose()

    def _taken(self, connection: Connection, key: int, wait_s: float) -> bool:
        if not wait_s:
            found = drive(connection, "SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            return bool(found[0])
        patience = f"{wait_s * 1000:.0f}ms"
        drive(connection, "SELECT set_config('lock_timeout', %s, false)", (patience,))
        try:
            drive(connection, "SELECT pg_advisory_lock(%s)", (key,))
        except DBAPIError as error:
            if self.trouble(error) is not Trouble.BUSY:
                raise
            return False
        return True


def _hold(connection: Connection, instance: str) -> None:
    """Hold an instance's lock for as long as this session lives."""
    drive(connection, "SELECT pg_advisory_lock(%s)", (_key(instance),))


def _key(name: str) -> int:
    """Return the number that an advisory lock is named by; 64 bits, signed."""
    digest = hashlib.sha256(b"weightproof/" + name.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _engine(url: URL, *, writes: bool) -> Engine:
    # Readers see one snapshot. A writer's statement sees what was there when it got its locks.
    level = "READ COMMITTED" if writes else "REPEATABLE READ"
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level=level,
        poolclass=NullPool if writes else None,
        pool_pre_ping=not writes,
        connect_args=_CONNECT,
        hide_parameters=True,
    )
    event.listen(engine, "connect", _prepare)
    return engine if writes else engine.execution_options(postgresql_readonly=True)


def _prepare(driver: Any, _record: object) -> None:
    driver.autocommit = True
    words = ", ".join(["set_config(%s, %s, false)"] * len(_SETTINGS))
    driver.execute(f"SELECT {words}", [word for pair in _SETTINGS.items() for word in pair])
    # Durable is what this promises; a server set up for more than `on` keeps that.
    driver.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    driver.autocommit = False
