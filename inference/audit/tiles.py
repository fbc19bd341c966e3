"""Tiles: the log as files that never change (C2SP tlog-tiles).

A tile holds up to 256 hashes of one tree level in eight: at level L, hash i of tile N is the root
of the 256^L entries from (256·N + i)·256^L on. Entry bundles hold the entries themselves, each
behind its length in two bytes. Only the last tile of a level may be partial; its width is then part
of its name, so that a name always means the same bytes, and any cache may keep them for ever.

Everything here is a pure function of names and bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from inference.audit.merkle import HASH_BYTES
from inference.errors import NodeError

TILE_WIDTH: Final = 256
# log2 of it: how many tree levels one tile spans.
TILE_HEIGHT: Final = 8
MAX_LEVEL: Final = 63
# Entry bundles stand beside the levels.
ENTRIES: Final = -1
# What a length of two bytes can tell.
MAX_ENTRY_BYTES: Final = 0xFFFF
MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
# 21 digits: more than a log of 2^63 entries has tiles.
_NAME: Final = re.compile(
    r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?",
    re.ASCII,
)


class NoTileError(NodeError):
    """There is no such tile: its name is not a tile's, or the log is not as long yet."""

    status = 404
    code = "no_such_tile"


class BadTileError(NodeError):
    """Bytes that are not the tile they should be."""

    exit_code = 6


@dataclass(frozen=True)
class Tile:
    """The name of a tile: `level` 0 … 63 or `ENTRIES`, its index there, and how many it holds."""

    level: int
    index: int
    width: int = TILE_WIDTH

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Read a name such as `tile/0/x001/x234/067.p/5`. Raises `NoTileError`."""
        match = _NAME.fullmatch(path)
        if match is not None:
            level = ENTRIES if match[1] == "entries" else int(match[1])
            tile = cls(level, int(re.sub("[x/]", "", match[2])), int(match[3] or TILE_WIDTH))
            # One tile has one name: no leading x000, no width that a full tile has.
            if level <= MAX_LEVEL and tile.width <= TILE_WIDTH and tile.path == path:
                return tile
        raise NoTileError(f"{path!r:.80} is not the name of a tile")

    @property
    def path(self) -> str:
        """The one name of this tile, below the log's prefix."""
        level = "entries" if self.level == ENTRIES else str(self.level)
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        name = "/".join([*("x" + group for group in groups[:-1]), groups[-1]])
        return f"tile/{level}/{name}" + ("" if self.is_full else f".p/{self.width}")

    @property
    def is_full(self) -> bool:
        """Whether the tile holds as many as one can."""
        return self.width == TILE_WIDTH

    @property
    def full(self) -> Tile:
        """The full tile that this one is the beginning of."""
        return replace(self, width=TILE_WIDTH)

    @property
    def start(self) -> int:
        """The position of the first hash, among the subtrees of its level, or of the entry."""
        return self.index * TILE_WIDTH

    @property
    def tree_level(self) -> int:
        """The level in the tree of what this tile holds."""
        return max(self.level, 0) * TILE_HEIGHT


def is_within(tile: Tile, size: int) -> bool:
    """Say whether a log of `size` entries has this tile."""
    return tile.start + tile.width <= size >> tile.tree_level


def tiles_between(old: int, new: int) -> Iterator[Tile]:
    """Yield the tiles that a log of `new` entries has and one of `old` had not, lowest first."""
    for level in (ENTRIES, *range(MAX_LEVEL + 1)):
        shift = max(level, 0) * TILE_HEIGHT
        before, now = old >> shift, new >> shift
        if not now:
            return
        if before == now:
            continue
        for index in range(before // TILE_WIDTH, now // TILE_WIDTH):
            yield Tile(level, index)
        if rest := now % TILE_WIDTH:
            yield Tile(level, now // TILE_WIDTH, rest)


def tile_of(level: int, position: int, size: int) -> Tile:
    """Return the tile of a log of `size` that holds position `position` of a tile level."""
    index = position // TILE_WIDTH
    here = (size >> max(level, 0) * TILE_HEIGHT) - index * TILE_WIDTH
    if not 0 <= position - index * TILE_WIDTH < here:
        raise NoTileError(f"a log of {size} entries has no {position} at level {level}")
    return Tile(level, index, min(here, TILE_WIDTH))


def join_hashes(hashes: Sequence[bytes]) -> bytes:
    """Return the bytes of a tile of hashes."""
    return b"".join(hashes)


def split_hashes(tile: Tile, data: bytes) -> tuple[bytes, ...]:
    """Return the hashes (32 bytes each) that a tile holds. Raises `BadTileError`."""
    if len(data) != tile.width * HASH_BYTES:
        raise BadTileError(f"{tile.path} has {len(data)} bytes, not {tile.width * HASH_BYTES}")
    return tuple(data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))


def join_entries(entries: Iterable[bytes]) -> bytes:
    """Return the bytes of an entry bundle. Raises `NoTileError` for an entry it cannot hold."""
    pieces = []
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            text = (
                f"an entry of {len(entry)} bytes fits no bundle, which tells of {MAX_ENTRY_BYTES}"
            )
            raise NoTileError(text, hint="read it from /v1/log/entries")
        pieces += [len(entry).to_bytes(2, "big"), entry]
    return b"".join(pieces)


def split_entries(tile: Tile, data: bytes) -> tuple[bytes, ...]:
    """Return the bytes of each entry in a bundle. Raises `BadTileError`."""
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise BadTileError(f"{tile.path} ends within its entry {len(entries)}")
        entries.append(data[at + 2 : end])
        at = end
    if len(entries) != tile.width:
        raise BadTileError(f"{tile.path} holds {len(entries)} entries, not {tile.width}")
    return tuple(entries)
