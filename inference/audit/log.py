"""The log in the database: append, prove, sign the head.

Nothing is kept in memory: each call reads what it needs inside the caller's transaction, so two
processes may append in turn. An append writes the entry and every subtree it completes, one to
log2(n) rows; a proof reads the at most 2·log2(n) rows it needs in two statements.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeVar

from sqlalchemy import Connection, bindparam, func, select, tuple_, update

from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, SignedCheckpoint
from inference.audit.entry import EncodedEntry, Entry
from inference.audit.merkle import NodeSource, ProofError
from inference.errors import NodeError
from inference.prepared import Prepared
from inference.schema import checkpoints, log_entries, log_nodes

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
_ADD_NODE: Final = Prepared(log_nodes.insert())
_LEAF: Final = Prepared(
    select(log_entries.c.leaf_hash).where(log_entries.c.seq == bindparam("position"))
)
_NODE: Final = Prepared(
    select(log_nodes.c.hash).where(
        log_nodes.c.level == bindparam("level"), log_nodes.c.position == bindparam("position")
    )
)


class LogError(NodeError):
    """An append or a checkpoint that would break the log's order."""


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
        self._complete(tx, entry.seq, leaf)
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

    def save_checkpoint(self, tx: Connection, signed: SignedCheckpoint) -> None:
        """Keep a signed head. Raises `LogError` when another root was signed for that size."""
        head = signed.checkpoint
        row = tx.execute(select(checkpoints.c.root).where(checkpoints.c.size == head.size)).first()
        if row is None:
            values = {"size": head.size, "root": head.root, "note": signed.note}
            tx.execute(checkpoints.insert(), values)
        elif row[0] != head.root:
            raise LogError(f"a checkpoint of size {head.size} with another root was signed before")

    def note(self, tx: Connection, size: int | None = None) -> str | None:
        """Return the note of the largest checkpoint kept, or of that of `size`; None if none."""
        query = select(checkpoints.c.note).order_by(checkpoints.c.size.desc()).limit(1)
        if size is not None:
            query = query.where(checkpoints.c.size == size)
        note: str | None = tx.execute(query).scalar()
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

    def _complete(self, tx: Connection, seq: int, leaf: bytes) -> None:
        """Write the inner nodes that leaf `seq` completes, lowest first; one on average."""
        value, position = leaf, seq
        for level in range((seq + 1 & -(seq + 1)).bit_length() - 1):
            value = merkle.node_hash(self._node(tx, level, position - 1), value)
            position >>= 1
            _ADD_NODE.run(tx, {"level": level + 1, "position": position, "hash": value})

    def _ask(self, tx: Connection, size: int, question: Callable[[NodeSource], T]) -> T:
        """Answer a question about the tree of `size`: first hear which nodes, then read them."""
        if size > (have := self.size(tx)):
            raise ProofError(f"the log has {have} entries, not {size}")
        wanted: set[tuple[int, int]] = set()

        def listen(level: int, position: int) -> bytes:
            wanted.add((level, position))
            return GENESIS

        question(listen)
        found = self._nodes(tx, wanted)
        return question(lambda level, position: found[level, position])

    def _node(self, tx: Connection, level: int, position: int) -> bytes:
        key = {"level": level, "position": position}
        row = _NODE.first(tx, key) if level else _LEAF.first(tx, key)
        if row is None:
            raise LogError(f"the log lacks node {(level, position)}: its tables are damaged")
        return bytes(row[0])

    def _nodes(
        self, tx: Connection, wanted: Collection[tuple[int, int]]
    ) -> dict[tuple[int, int], bytes]:
        """Read complete subtrees: leaves from the entries, inner nodes from their own table."""
        found: dict[tuple[int, int], bytes] = {}
        if leaves := [position for level, position in wanted if level == 0]:
            query = select(log_entries.c.seq, log_entries.c.leaf_hash)
            rows = tx.execute(query.where(log_entries.c.seq.in_(leaves)))
            found.update(((0, row.seq), row.leaf_hash) for row in rows)
        if inner := [key for key in wanted if key[0] > 0]:
            table = log_nodes.c
            query = select(table.level, table.position, table.hash)
            rows = tx.execute(query.where(tuple_(table.level, table.position).in_(inner)))
            found.update(((row.level, row.position), row.hash) for row in rows)
        if missing := set(wanted) - found.keys():
            raise LogError(f"the log lacks nodes {sorted(missing)[:4]}: its tables are damaged")
        return found
