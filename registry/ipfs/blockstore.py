"""Block stores: where blocks are kept, and the promise that what comes back was re-hashed.

`LayeredBlockStore` reads through a local store into remote ones; nobody is believed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from registry.errors import BlockCorruptError, BlockError, BlockMissingError, BlockStoreError
from registry.ipfs.cid import Cid, Codec

# What IPFS peers exchange at most; a larger block could be stored here and nowhere else.
MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024


class BlockStore(Protocol):
    """A place for blocks. Every method may raise `BlockStoreError` when it cannot be reached."""

    def get(self, cid: Cid) -> bytes:
        """Return the block, re-hashed. Raises `BlockMissingError` or `BlockCorruptError`."""

    def put(self, codec: Codec, data: bytes) -> Cid:
        """Store a block and return its name. The same block may be put any number of times."""

    def has(self, cid: Cid) -> bool:
        """Return whether the store holds the block now; it may still prove corrupt."""


class MemoryBlockStore:
    """Blocks in a dictionary, for tests and for one-off checks. Safe between threads."""

    def __init__(self) -> None:
        self._blocks: dict[Cid, bytes] = {}

    def get(self, cid: Cid) -> bytes:
        """Return the block. Raises `BlockMissingError`."""
        try:
            return verified(cid, self._blocks[cid], source="memory")
        except KeyError as error:
            raise BlockMissingError(f"{cid} is not in memory", cid=str(cid)) from error

    def put(self, codec: Codec, data: bytes) -> Cid:
        """Store a block."""
        cid = Cid.of_block(codec, check_size(data))
        self._blocks[cid] = bytes(data)
        return cid

    def has(self, cid: Cid) -> bool:
        """Return whether the block is held."""
        return cid in self._blocks


class FolderBlockStore:
    """Blocks as files, `<folder>/<two characters>/<cid>`. Safe between threads and processes.

    A block appears whole or not at all (written beside, synced, renamed). A block found damaged
    is reported by `get` and replaced by the next `put` of its bytes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, cid: Cid) -> bytes:
        """Return the block. Raises `BlockMissingError`, `BlockCorruptError`, `BlockStoreError`."""
        try:
            with _open(self._path(cid)) as file:
                data = file.read(MAX_BLOCK_BYTES + 1)
        except FileNotFoundError as error:
            raise BlockMissingError(f"{cid} is not in {self._folder}", cid=str(cid)) from error
        except OSError as error:
            raise BlockStoreError(f"{cid} cannot be read: {error}", cid=str(cid)) from error
        return verified(cid, data, source=str(self._folder))

    def put(self, codec: Codec, data: bytes) -> Cid:
        """Store a block. Raises `BlockStoreError` when the disk is full or forbids it."""
        cid = Cid.of_block(codec, check_size(data))
        path = self._path(cid)
        try:
            if not _holds(path, data):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write_atomically(path, data)
        except OSError as error:
            raise BlockStoreError(
                f"{cid} cannot be written to {self._folder}: {error}",
                cid=str(cid),
                hint="Free space on the disk or choose another block store folder.",
            ) from error
        return cid

    def has(self, cid: Cid) -> bool:
        """Return whether a file of that name exists."""
        return self._path(cid).is_file()

    def _path(self, cid: Cid) -> Path:
        # All CIDs begin alike; characters near the end spread them over 1024 folders.
        name = str(cid)
        return self._folder / name[-3:-1] / name


class LayeredBlockStore:
    """A local store in front of others, asked in order; what they send is kept locally."""

    def __init__(self, stores: Sequence[BlockStore]) -> None:
        if not stores:
            raise BlockStoreError("no block store is configured")
        self._local, *self._remotes = stores

    def get(self, cid: Cid) -> bytes:
        """Return the block from the first store that has it whole.

        When none has, the error is `BlockMissingError` if all agree that they lack it, else the
        first other trouble, with what every store said.
        """
        try:
            return self._local.get(cid)
        except BlockError as error:
            troubles = [error]
        for remote in self._remotes:
            try:
                data = remote.get(cid)
                # Storing computes the name again, so a store that does not verify is caught too.
                if self._local.put(cid.codec, data) == cid:
                    return data
                raise BlockCorruptError(f"other bytes came for {cid}", cid=str(cid))
            except BlockError as error:
                troubles.append(error)
        kinds = [type(t) for t in troubles if not isinstance(t, BlockMissingError)]
        kind = kinds[0] if kinds else BlockMissingError
        raise kind("; ".join(t.message for t in troubles), cid=str(cid))

    def put(self, codec: Codec, data: bytes) -> Cid:
        """Store a block locally."""
        return self._local.put(codec, data)

    def has(self, cid: Cid) -> bool:
        """Return whether any of the stores holds the block."""
        return any(store.has(cid) for store in (self._local, *self._remotes))


def verified(cid: Cid, data: bytes, *, source: str) -> bytes:
    """Return `data` if it is the block that `cid` names. Raises `BlockCorruptError`."""
    if len(data) > MAX_BLOCK_BYTES:
        raise BlockCorruptError(f"{source} has over 2 MiB under {cid}", cid=str(cid))
    if not cid.matches(data):
        raise BlockCorruptError(f"{source} has other bytes under {cid}", cid=str(cid))
    return data


def check_size(data: bytes) -> bytes:
    """Return `data` if it is small enough for a block. Raises `BlockStoreError`."""
    if len(data) > MAX_BLOCK_BYTES:
        raise BlockStoreError(f"a block of {len(data)} bytes, more than {MAX_BLOCK_BYTES}")
    return data


def _holds(path: Path, data: bytes) -> bool:
    try:
        with _open(path) as file:
            return file.read(len(data) + 1) == data
    except FileNotFoundError:
        return False


def _open(path: Path) -> BinaryIO:
    # Opening a FIFO would wait for a writer, and a device has no end: without waiting, then looked
    # at. What a link leads to is as good as any file, since its bytes are hashed.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a plain file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _write_atomically(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # A rename may reach the disk before the bytes do; without this a crash leaves
            # empty files with good names.
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
