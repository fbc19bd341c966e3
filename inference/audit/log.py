"""The log in the database: append, prove, sign the head.

Nothing is kept in memory: each call reads what it needs inside the caller's transaction, so two
processes may append in turn. What an append writes and a proof reads is O(log n) rows, see
`stored_tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Connection, func, select, update

from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, SignedCheckpoint, parse, with_lines
from inference.audit.entry import EncodedEntry, Entry
from inference.audit.merkle import NodeSource, ProofError
from inference.audit.stored_tree import LogError, complete, read_nodes
from inference.prepared import Prepared
from inference.schema import checkpoints, log_entries

__all__ = ("AuditLog", "LogError", "LogPosition", "NextPosition")

T = TypeVar("T")

# What the first entry points back to.
GENESIS: Final = bytes(32)
# One page of entries over HTTP; at about 2 KiB each this is 2 MiB.
MAX_PAGE: Final = 1000
# Entries may be far larger; a page ends early rather than grow beyond what readers accept.
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024

_LAST: Final = Prepared(
    select(log_entries.c.seq, log_entries.c.leaf_hash).order_by(log_entries.c.seq.desc()).limit(1)
)
_ADD_ENTRY: Final = Prepared(log_entries.insert())


@dataclass(frozen=True)
class NextPosition:
    """Where the next entry will stand, and the leaf hash (32 bytes) of the one before it."""

    seq: int
    prev: bytes


@dataclass(frozen=True)
class LogPosition:
    """Where an entry stands: its index, its leaf hash and that of the entry before it."""

    seq: int
    leaf_hash: bytes
    prev: bytes


@dataclass(frozen=True)
class AuditLog:
    """The log named `origin`. Every method works inside the transaction `tx` handed in."""

    origin: str

    def next_position(self, tx: Connection) -> NextPosition:
        """Return the next seq and prev; a receipt is signed over both, then appended."""
        row = _LAST.first(tx, {})
        return NextPosition(0, GENESIS) if row is None else NextPosition(row[0] + 1, row[1])

    def size(self, tx: Connection) -> int:
        """Return how many entries there are."""
        return self.next_position(tx).seq

    def append(
        self, tx: Connection, entry: Entry | EncodedEntry, head: NextPosition | None = None
    ) -> LogPosition:
        """Add an entry at the end. Raises `LogError` unless its seq is the next one.

        `head` is the `next_position` that was read in this transaction already.
        """
        head = head or self.next_position(tx)
        if entry.seq != head.seq:
            raise LogError(f"entry {entry.seq} cannot stand at {head.seq}: the log has no gaps")
        body = entry.encode()
        leaf = merkle.leaf_hash(body)
        _ADD_ENTRY.run(tx, {"seq": entry.seq, "leaf_hash": leaf, "body": body})
        complete(tx, entry.seq, leaf)
        return LogPosition(entry.seq, leaf, head.prev)

    def entry_bytes(self, tx: Connection, start: int, end: int) -> tuple[bytes, ...]:
        """Return the bytes of entries [start, end): those that exist, as many as fit a page.

        A page has at most 1000 entries and ends with the one that takes it over 8 MiB, so a
        reader goes on from where it ended.
        """
        rows = tx.execute(
            select(log_entries.c.body)
            .where(log_entries.c.seq >= start, log_entries.c.seq < min(end, start + MAX_PAGE))
            .order_by(log_entries.c.seq)
        )
        page: list[bytes] = []
        room = MAX_PAGE_BYTES
        for row in rows:
            page.append(row.body)
            room -= len(row.body)
            if room <= 0:
                break
        return tuple(page)

    def root(self, tx: Connection, size: int) -> bytes:
        """Return the root of the first `size` entries."""
        return self._ask(tx, size, lambda node: merkle.tree_root(size, node))

    def inclusion_proof(self, tx: Connection, seq: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry `seq` is among the first `size`. Raises `ProofError`."""
        return self._ask(tx, size, lambda node: merkle.inclusion_proof(seq, size, node))

    def consistency_proof(self, tx: Connection, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the first `new` entries begin with the first `old`."""
        return self._ask(tx, new, lambda node: merkle.consistency_proof(old, new, node))

    def checkpoint(self, tx: Connection) -> Checkpoint:
        """Return the unsigned checkpoint of everything appended so far."""
        size = self.size(tx)
        return Checkpoint(self.origin, size, self.root(tx, size))

    def save_checkpoint(self, tx: Connection, signed: SignedCheckpoint) -> str:
        """Keep a signed head; return its note, with all lines that were kept for it so far.

        Raises `LogError` when another root was signed for that size.
        """
        head = signed.checkpoint
        row = tx.execute(select(checkpoints.c.root).where(checkpoints.c.size == head.size)).first()
        if row is None:
            values = {"size": head.size, "root": head.root, "note": signed.note}
            tx.execute(checkpoints.insert(), values)
            return signed.note
        if row[0] != head.root:
            raise LogError(f"a checkpoint of size {head.size} with another root was signed before")
        return self.add_lines(tx, head.size, parse(signed.note)[1])

    def note(self, tx: Connection, size: int | None = None) -> str | None:
        """Return the note of the largest checkpoint kept, or of that of `size`; None if none."""
        query = select(checkpoints.c.note).order_by(checkpoints.c.size.desc()).limit(1)
        if size is not None:
            query = query.where(checkpoints.c.size == size)
        note: str | None = tx.execute(query).scalar()
        return note

    def add_lines(self, tx: Connection, size: int, lines: Iterable[str]) -> str:
        """Add signature lines to the note kept for `size`, one a key; return it."""
        note = self.note(tx, size)
        if note is None:
            raise LogError(f"no checkpoint of size {size} is kept")
        note = with_lines(note, lines)
        tx.execute(update(checkpoints).where(checkpoints.c.size == size).values(note=note))
        return note

    def publish(self, tx: Connection, size: int, at: int) -> None:
        """Note that the checkpoint of `size` may be shown, at unix second `at`."""
        row = checkpoints.c.size == size, checkpoints.c.published_at.is_(None)
        tx.execute(update(checkpoints).where(*row).values(published_at=at))

    def published(self, tx: Connection) -> str | None:
        """Return the note of the largest published checkpoint; None if there is none."""
        query = select(checkpoints.c.note).where(checkpoints.c.published_at.is_not(None))
        note: str | None = tx.execute(query.order_by(checkpoints.c.size.desc()).limit(1)).scalar()
        return note

    def mark_anchored(self, tx: Connection, size: int, tx_hash: str) -> None:
        """Note which transaction put the checkpoint of `size` on chain."""
        tx.execute(
            update(checkpoints).where(checkpoints.c.size == size).values(anchored_tx=tx_hash)
        )

    def anchored_size(self, tx: Connection) -> int:
        """Return the size of the largest checkpoint known to be on chain; 0 if none is."""
        query = select(func.max(checkpoints.c.size)).where(checkpoints.c.anchored_tx.is_not(None))
        return tx.execute(query).scalar() or 0

    def _ask(self, tx: Connection, size: int, question: Callable[[NodeSource], T]) -> T:
        """Answer a question about the tree of `size`: first hear which nodes, then read them."""
        if size > (have := self.size(tx)):
            raise ProofError(f"the log has {have} entries, not {size}")
        wanted: set[tuple[int, int]] = set()

        def listen(level: int, position: int) -> bytes:
            wanted.add((level, position))
            return GENESIS

        question(listen)
        found = read_nodes(tx, wanted)
        return question(lambda level, position: found[level, position])
