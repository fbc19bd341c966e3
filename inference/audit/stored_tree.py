"""The rows of the log's tree: the hash of every complete subtree, stored once, never changed.

Leaves (level 0) lie in `log_entries`, subtrees of 2^level leaves in `log_nodes`, both under their
position. An append writes what its leaf completes, one row on average and log2(n) at most; the
root and every proof need at most 2·log2(n) rows, read here by their keys in two statements; a tile
is 256 neighbours of one level.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from sqlalchemy import Connection, bindparam, select

from inference.audit import merkle
from inference.errors import NodeError
from inference.prepared import Prepared, drive
from inference.schema import log_entries, log_nodes

# A subtree: its level and its position among those of its level.
Key: TypeAlias = tuple[int, int]

_LEAF: Final = Prepared(
    select(log_entries.c.leaf_hash).where(log_entries.c.seq == bindparam("position"))
)
_NODE: Final = Prepared(
    select(log_nodes.c.hash).where(
        log_nodes.c.level == bindparam("level"), log_nodes.c.position == bindparam("position")
    )
)
_ADD_NODE: Final = Prepared(log_nodes.insert())
_LEAVES: Final = Prepared(
    select(log_entries.c.leaf_hash)
    .where(log_entries.c.seq >= bindparam("start"), log_entries.c.seq < bindparam("stop"))
    .order_by(log_entries.c.seq)
)
_ROW: Final = Prepared(
    select(log_nodes.c.hash)
    .where(
        log_nodes.c.level == bindparam("level"),
        log_nodes.c.position >= bindparam("start"),
        log_nodes.c.position < bindparam("stop"),
    )
    .order_by(log_nodes.c.position)
)


class LogError(NodeError):
    """An append or a checkpoint that would break the log's order, or a log that is damaged."""


def complete(tx: Connection, seq: int, leaf: bytes) -> None:
    """Write the inner nodes that leaf `seq` completes, lowest first; one on average."""
    value, position = leaf, seq
    for level in range((seq + 1 & -(seq + 1)).bit_length() - 1):
        value = merkle.node_hash(_node(tx, level, position - 1), value)
        position >>= 1
        _ADD_NODE.run(tx, {"level": level + 1, "position": position, "hash": value})


def read_nodes(tx: Connection, wanted: Collection[Key]) -> dict[Key, bytes]:
    """Return the hashes of complete subtrees. Raises `LogError` when one is not there."""
    leaves = [(position,) for level, position in wanted if level == 0]
    inner = [key for key in wanted if key[0] > 0]
    found: dict[Key, bytes] = {}
    for rows, keys in ((_LEAF_ROWS, leaves), (_NODE_ROWS, inner)):
        if keys:
            values = [number for key in keys for number in key]
            text = _keyed(rows, len(keys), tx.dialect.paramstyle)
            found.update(
                ((level, position), bytes(value))
                for level, position, value in drive(tx, text, values).fetchall()
            )
    if missing := set(wanted) - found.keys():
        raise LogError(f"the log lacks nodes {sorted(missing)[:4]}: its tables are damaged")
    return found


def read_row(tx: Connection, level: int, start: int, count: int) -> Sequence[bytes]:
    """Return the hashes of `count` neighbours of one level. Raises `LogError`."""
    query = _ROW if level else _LEAVES
    rows = query.rows(tx, {"level": level, "start": start, "stop": start + count})
    if len(rows) != count:
        raise LogError(f"the log lacks nodes of level {level} after {start}")
    return [bytes(row[0]) for row in rows]


# The wanted keys come first and each finds its row by the primary key. (Asked for rows whose pair
# of columns is in a list, SQLite reads the whole table: 100 ms at a million entries.)
_LEAF_ROWS: Final = (
    "WITH wanted(position) AS (VALUES {}) SELECT 0, e.seq, e.leaf_hash "
    "FROM wanted CROSS JOIN log_entries e WHERE e.seq = wanted.position",
    1,
)
_NODE_ROWS: Final = (
    "WITH wanted(level, position) AS (VALUES {}) SELECT n.level, n.position, n.hash "
    "FROM wanted CROSS JOIN log_nodes n "
    "WHERE n.level = wanted.level AND n.position = wanted.position",
    2,
)


@lru_cache(maxsize=512)
def _keyed(rows: tuple[str, int], count: int, paramstyle: str) -> str:
    mark = "?" if paramstyle == "qmark" else "%s"
    key = f"({', '.join([mark] * rows[1])})"
    return rows[0].format(", ".join([key] * count))


def _node(tx: Connection, level: int, position: int) -> bytes:
    key = {"level": level, "position": position}
    row = _NODE.first(tx, key) if level else _LEAF.first(tx, key)
    if row is None:
        raise LogError(f"the log lacks node {(level, position)}: its tables are damaged")
    return bytes(row[0])
