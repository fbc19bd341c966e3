"""Reads a log from tiles: from a folder, a static file server or a CDN, whoever serves it.

Proofs are computed here from tiles, so a log can be audited of which nothing but files is left.
What comes is no more trusted than a node's answers: check 3 of an audit hashes every entry, and
proofs are verified by whoever asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

import httpx

from inference.audit import merkle
from inference.audit.merkle import ProofError
from inference.audit.reader import BadAnswerError, LogReader
from inference.audit.tiles import (
    ENTRIES,
    MAX_BUNDLE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    BadTileError,
    NoTileError,
    Tile,
    split_entries,
    split_hashes,
    tile_of,
)
from inference.remote import bounded

# The bytes under a name, at most as many as asked for; None where there is nothing.
Files: TypeAlias = Callable[[str, int], bytes | None]

_CHECKPOINT: Final = "checkpoint"
_MAX_NOTE_BYTES: Final = 64 * 1024
# Of hashes: 32 MiB, which is all of a log of a million entries.
_KEPT_TILES: Final = 4096


def folder_files(folder: Path) -> Files:
    """Return what reads an exported folder."""

    def read(name: str, limit: int) -> bytes | None:
        try:
            with (folder / name).open("rb") as file:
                return file.read(limit + 1)
        except FileNotFoundError:
            return None

    return read


def http_files(client: httpx.Client) -> Files:
    """Return what reads below a client's base address. Raises `UnavailableError` without one."""

    def read(name: str, limit: int) -> bytes | None:
        response, body = bounded(client, "GET", f"/{name}", limit=limit)
        return body if response.status_code == 200 else None

    return read


class TileReader(LogReader):
    """A log in tiles. What tiles do not tell, such as a ledger's state, `client` is asked for."""

    def __init__(self, files: Files, client: httpx.Client) -> None:
        super().__init__(client)
        self._files = files
        self._hashes = lru_cache(maxsize=_KEPT_TILES)(self._read_hashes)

    def note(self) -> str:
        """Return the checkpoint that the tiles reach."""
        data = self._files(_CHECKPOINT, _MAX_NOTE_BYTES)
        if data is None or len(data) > _MAX_NOTE_BYTES:
            raise _bad(_CHECKPOINT, "there is no checkpoint")
        return data.decode("utf-8", errors="replace")

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes of entries [start, end), of a log that is `end` long."""
        while start < end:
            tile = tile_of(ENTRIES, start, end)
            bundle = _checked(tile, self._read(tile, MAX_BUNDLE_BYTES), split_entries)
            yield from bundle[start - tile.start : end - tile.start]
            start = tile.start + tile.width

    def inclusion_proof(self, seq: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry `seq` is in the log of `size`."""
        return self._proved(lambda: merkle.inclusion_proof(seq, size, self._nodes(size)))

    def consistency_proof(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of `new` begins with the log of `old`."""
        return self._proved(lambda: merkle.consistency_proof(old, new, self._nodes(new)))

    def _proved(self, prove: Callable[[], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        try:
            return prove()
        except (ProofError, NoTileError) as error:
            raise _bad("tile", error.message) from error

    def _nodes(self, size: int) -> merkle.NodeSource:
        """Return the complete subtrees of a log of `size`, by the tiles they lie in."""

        def node(level: int, position: int) -> bytes:
            depth = level % TILE_HEIGHT
            first = position << depth
            tile = tile_of(level // TILE_HEIGHT, first, size)
            here = first - tile.start
            return merkle.root(self._hashes(tile)[here : here + (1 << depth)])

        return node

    def _read_hashes(self, tile: Tile) -> tuple[bytes, ...]:
        data = self._read(tile, TILE_WIDTH * merkle.HASH_BYTES)
        return _checked(tile, data, split_hashes)

    def _read(self, tile: Tile, limit: int) -> bytes:
        """Return a tile's bytes: where a partial one is gone, from the full one it became."""
        data = self._files(tile.path, limit)
        if data is None and not tile.is_full and (data := self._files(tile.full.path, limit)):
            data = _beginning(tile, data)
        if data is None or len(data) > limit:
            raise _bad(tile.path, "there is no such tile, or it is too large")
        return data


def _beginning(tile: Tile, full: bytes) -> bytes:
    if tile.level != ENTRIES:
        return full[: tile.width * merkle.HASH_BYTES]
    end = 0
    for _ in range(tile.width):
        end += 2 + int.from_bytes(full[end : end + 2], "big")
    return full[:end]


def _checked(
    tile: Tile, data: bytes, split: Callable[[Tile, bytes], tuple[bytes, ...]]
) -> tuple[bytes, ...]:
    try:
        return split(tile, data)
    except BadTileError as error:
        raise _bad(tile.path, error.message) from error


def _bad(name: str, why: str) -> BadAnswerError:
    return BadAnswerError(f"the log's tiles: {why}", evidence={"tile": name, "reason": why})
