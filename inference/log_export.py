"""`weightproof log export`: the log as a folder that any static file server or CDN can serve.

The folder holds what `/log/` serves: `checkpoint`, `tile/<L>/<N>`, `tile/entries/<N>`. An export
adds what is new since the last one. The checkpoint is replaced last and in one step, so whoever
reads the folder meanwhile finds every tile that the checkpoint needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from inference.audit.checkpoint import Checkpoint, CheckpointError, parse
from inference.audit.log import AuditLog
from inference.audit.merkle import ProofError
from inference.audit.tiled_log import TiledLog
from inference.audit.tiles import ENTRIES, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, tiles_between
from inference.database import Database
from inference.errors import NodeError
from inference.whole_file import write_whole

CHECKPOINT: Final = "checkpoint"


class ExportError(NodeError):
    """The folder holds something else than an earlier state of this log."""


@dataclass(frozen=True)
class Exported:
    """What an export did: from which size to which, and how many tiles were written."""

    before: int
    size: int
    tiles: int

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        return {"before": self.before, "size": self.size, "tiles": self.tiles}


def export(
    database: Database,
    log: AuditLog,
    note: str,
    folder: Path,
    progress: Callable[[str], None] = lambda name: None,
) -> Exported:
    """Write the log as it is at the checkpoint in `note`; what is there already stays.

    Raises `ExportError` for a folder of another log, or of one that went another way.
    """
    head, before = parse(note)[0], _before(folder)
    _check_extends(database, log, before, head, folder)
    tiled = TiledLog(log)
    written = 0
    for tile in tiles_between(before.size if before else 0, head.size):
        progress(tile.path)
        write_whole(folder / tile.path, database.read(partial(tiled.read, tile=tile)))
        written += 1
    write_whole(folder / CHECKPOINT, note.encode())
    if before is not None:
        _forget_partial(folder, before.size, head.size)
    return Exported(before.size if before else 0, head.size, written)


def count(folder: Path, note: str) -> int:
    """Return how many tiles an export at the checkpoint in `note` has to write."""
    before = _before(folder)
    return sum(1 for _ in tiles_between(before.size if before else 0, parse(note)[0].size))


def _before(folder: Path) -> Checkpoint | None:
    """Return what was exported last; None in a new folder."""
    try:
        return parse((folder / CHECKPOINT).read_text())[0]
    except FileNotFoundError:
        return None
    except (CheckpointError, UnicodeDecodeError) as error:
        raise ExportError(f"{folder / CHECKPOINT} is no checkpoint: it was left alone") from error


def _check_extends(
    database: Database, log: AuditLog, before: Checkpoint | None, head: Checkpoint, folder: Path
) -> None:
    if before is None:
        return
    if before.origin != head.origin:
        raise ExportError(f"{folder} holds the log {before.origin}, not {head.origin}")
    try:
        same = database.read(lambda tx: log.root(tx, before.size)) == before.root
    except ProofError:
        same = False
    if not same or before.size > head.size:
        raise ExportError(
            f"{folder} holds {before.size} entries that this log does not begin with",
            hint="export into a new folder, and find out why",
        )


def _forget_partial(folder: Path, old: int, new: int) -> None:
    """Remove partial tiles that are full by now; readers of the old checkpoint take those."""
    for level in (ENTRIES, *range(MAX_LEVEL + 1)):
        shift = max(level, 0) * TILE_HEIGHT
        index, width = divmod(old >> shift, TILE_WIDTH)
        if width and new >> shift >= (index + 1) * TILE_WIDTH:
            name = Tile(level, index, width).path.rpartition("/")[0]
            shutil.rmtree(folder / name, ignore_errors=True)
