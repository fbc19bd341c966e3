"""What differs between the databases behind `Database`: how to open, begin, lock, and fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from enum import Enum, auto
from typing import Final, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from inference.errors import NodeError, UnavailableError
from inference.pending_write import PendingWrite

# How long one process waits for another's transaction or lock before it answers 503.
BUSY_TIMEOUT_S: Final = 5.0


class DatabaseError(UnavailableError):
    """The database did not do what it was asked; nothing was changed."""

    code = "database_unavailable"


class DatabaseBusyError(DatabaseError):
    """Another process holds the database, or a lock of it."""


class LockTakenError(DatabaseBusyError):
    """Another process is at what only one may do at a time."""


class DatabaseFullError(DatabaseError):
    """The disk is full, failed, or does not let itself be written."""


class DatabaseUnknownError(NodeError):
    """The database went away while it was committing, and has not come back to say what it kept.

    Not a `DatabaseError`: whoever is told this must not ask for the same again.
    """

    status = 503
    code = "database_outcome_unknown"


class Trouble(Enum):
    """What a driver's error means for the transaction it broke."""

    OWN = auto()  # the statement's own fault: only what asked for it fails
    AGAIN = auto()  # another process was in the way: the whole transaction may run again
    TAKEN = auto()  # another process may have written that row first: run again and see it
    BUSY = auto()  # another process holds what it needs
    FULL = auto()  # the disk is full, failed, or does not let itself be written
    GONE = auto()  # the connection is lost


class Transaction(Protocol):
    """A transaction that is kept when its block ends, unless it was undone."""

    def rollback(self) -> None:
        """Undo it; what comes after in its block is no part of it."""


class Store(Protocol):
    """One kind of database."""

    @property
    def shown(self) -> str:
        """Its address, without a password."""

    @property
    def reader(self) -> Engine:
        """What reads snapshots."""

    @property
    def instance(self) -> str:
        """Under whose name this process has work in flight; see `inference.instances`."""

    def connect(self) -> Connection:
        """Connect the writer."""

    def lock_schema(self, connection: Connection) -> None:
        """Let nobody else change the schema until the transaction ends."""

    def enter(self, connection: Connection) -> bool:
        """Live on as the instance this process was, or as a new one where that was ended.

        Says whether the last transaction begun before was kept.
        """

    def parts(self, writes: Sequence[PendingWrite]) -> Iterable[Sequence[PendingWrite]]:
        """Split what waits into transactions."""

    def transaction(
        self, connection: Connection, *, durable: bool
    ) -> AbstractContextManager[Transaction]:
        """Begin a transaction whose COMMIT waits for the disk, or leaves that to a later one."""

    def trouble(self, error: DBAPIError) -> Trouble:
        """Say what an error means."""

    def is_dead(self, tx: Connection, instance: str) -> bool:
        """Say for certain whether another instance's process is gone; it stays so until `tx` ends.

        While `tx` lasts nobody else hears the same.
        """

    def exclusive(self, name: str, wait_s: float) -> AbstractContextManager[bool]:
        """Hold a lock that one process has at a time; False where another kept it for `wait_s`."""

    def close(self) -> None:
        """Let go of every connection."""


def database_error(error: DBAPIError, trouble: Trouble) -> DatabaseError:
    """Return the error that the database's callers are told of."""
    match trouble:
        case Trouble.BUSY | Trouble.AGAIN:
            return DatabaseBusyError("the database is in use by another process", hint="try again")
        case Trouble.FULL:
            return DatabaseFullError(
                "the database cannot be written", hint="free some space on its disk"
            )
        case Trouble.GONE:
            return DatabaseError("the database cannot be reached", hint="try again")
    return DatabaseError(f"the database refused: {error.orig}")
