"""A folder to its CID, as `ipfs add -r --hidden` of the profile names it, on all processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeAlias

from registry.errors import FileRefusedError
from registry.hashing.parallel import parallel_map
from registry.hashing.walk import (
    PIECE_BYTES,
    FoundFile,
    check_paths,
    open_beneath,
    stamp_of,
    walk,
)
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import Cid
from registry.ipfs.unixfs import Entry, Subtree, UnixfsBuilder, tsize_of

# A directory under construction: names to files or to directories.
_Directory: TypeAlias = "dict[str, _Directory | Entry]"


@dataclass(frozen=True, slots=True)
class HashedFile:
    """One file: its path relative to the folder, its size in bytes, its CID."""

    path: str
    size: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class HashedFolder:
    """A folder: the CID of its directory tree and its files sorted by path."""

    root: Cid
    files: tuple[HashedFile, ...]
    total_bytes: int


def hash_folder(
    folder: Path,
    *,
    sink: BlockStore | None = None,
    progress: Callable[[int], None] | None = None,
    allow_hard_links: bool = True,
    threads: int | None = None,
) -> HashedFolder:
    """Hash every file below `folder`; with a `sink`, also store all blocks.

    `progress` is called with the bytes done since its last call, on the caller's thread. Hard
    links are allowed by default: what is recorded is what was read here, whoever else may write.

    Raises `FileRefusedError` for what `walk` refuses and for a file that changes meanwhile.
    """
    found = walk(folder, allow_hard_links=allow_hard_links)
    builder = UnixfsBuilder(sink)

    def hash_piece(piece: tuple[FoundFile, int]) -> Subtree:
        return builder.leaf(_read_piece(folder, *piece))

    def count(leaf: Subtree) -> Subtree:
        if progress is not None:
            progress(leaf.size)
        return leaf

    leaves = map(count, parallel_map(hash_piece, _pieces(found), threads=threads))
    files = []
    for file, pieces in groupby(_pieces(found), key=lambda piece: piece[0]):
        tree = builder.tree(next(leaves) for _ in pieces)
        files.append(HashedFile(file.path, tree.size, tree.cid))
    total = sum(file.size for file in files)
    return HashedFolder(root_of(files, sink=sink), tuple(files), total)


def root_of(files: Iterable[HashedFile], *, sink: BlockStore | None = None) -> Cid:
    """Return the CID of the directory tree that holds these files, from their CIDs alone.

    Raises `FileRefusedError` when the paths cannot stand in one folder or there are none.
    """
    top: _Directory = {}
    listed = tuple(files)
    check_paths(file.path for file in listed)
    if not listed:
        raise FileRefusedError(".", "there are no files")
    for file in listed:
        *parents, name = file.path.split("/")
        directory = top
        for parent in parents:
            below = directory.setdefault(parent, {})
            if isinstance(below, Entry):
                raise FileRefusedError(file.path, f"{parent} is a file and also a folder")
            directory = below
        directory[name] = Entry(name, file.cid, tsize_of(file.size))
    return _build(top, UnixfsBuilder(sink)).cid


def _build(directory: _Directory, builder: UnixfsBuilder) -> Subtree:
    entries = []
    for name, below in directory.items():
        if isinstance(below, dict):
            tree = _build(below, builder)
            below = Entry(name, tree.cid, tree.tsize)
        entries.append(below)
    return builder.directory(entries)


def _pieces(found: Iterable[FoundFile]) -> Iterator[tuple[FoundFile, int]]:
    """Yield (file, offset) of every chunk; an empty file has one empty chunk."""
    for file in found:
        for offset in range(0, max(file.size, 1), PIECE_BYTES):
            yield file, offset


def _read_piece(folder: Path, file: FoundFile, offset: int) -> bytes:
    # Opened for each megabyte: some microseconds, and no descriptors to keep track of.
    descriptor = open_beneath(folder, file.path)
    try:
        data = os.pread(descriptor, PIECE_BYTES, offset)
        unchanged = stamp_of(os.fstat(descriptor)) == file.stamp
    finally:
        os.close(descriptor)
    if not unchanged or len(data) != min(PIECE_BYTES, file.size - offset):
        raise FileRefusedError(file.path, "changed while it was hashed")
    return data
