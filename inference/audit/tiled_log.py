"""The log in the database, as tiles: what a route serves and an export writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select

from inference.audit.log import AuditLog
from inference.audit.stored_tree import read_row
from inference.audit.tiles import (
    ENTRIES,
    NoTileError,
    Tile,
    is_within,
    join_entries,
    join_hashes,
)
from inference.prepared import Prepared
from inference.schema import log_entries

_BODIES: Final = Prepared(
    select(log_entries.c.body)
    .where(log_entries.c.seq >= bindparam("start"), log_entries.c.seq < bindparam("stop"))
    .order_by(log_entries.c.seq)
)


@dataclass(frozen=True)
class TiledLog:
    """Reads tiles inside the transaction `tx` handed in, each by neighbouring rows."""

    log: AuditLog

    def read(self, tx: Connection, tile: Tile) -> bytes:
        """Return a tile's bytes. Raises `NoTileError` for one that the log does not reach."""
        if not is_within(tile, size := self.log.size(tx)):
            raise NoTileError(f"the log has {size} entries, too few for {tile.path}")
        if tile.level == ENTRIES:
            span = {"start": tile.start, "stop": tile.start + tile.width}
            return join_entries(bytes(row[0]) for row in _BODIES.rows(tx, span))
        return join_hashes(read_row(tx, tile.tree_level, tile.start, tile.width))
