"""A weight file whose layout is proven and whose tensors are still to come.

Its first bytes, up to where the tensors begin, hash to what the manifest promises; so each tensor's
place is known before any is read. The tensors' own bytes are taken from here once, by whoever puts
them where they compute, and are proven there, where they lie (story b, step 7).
"""

from __future__ import annotations

import hashlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from registry.errors import BlockError, FileRefusedError
from registry.hashing.dataset import HashedFile
from registry.hashing.safetensors_header import TensorInfo, header_length, parse_header
from registry.hashing.walk import open_beneath
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.unixfs import read_file

# One reading: small enough to be hashed out of the processor's cache, large enough to hand over.
_RUN_BYTES: Final = 2 * 1024 * 1024
# Linux scatters one reading over at most 1024 places.
_RUN_PARTS: Final = 512


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one tensor: `start` and `size` in bytes within it."""

    name: str
    start: int
    size: int


class Fill(Protocol):
    """Writes the bytes of a run's parts into places of the same sizes, on any thread."""

    def __call__(self, places: Sequence[memoryview]) -> None:
        """Fill them. Raises `FileRefusedError` when the file became shorter."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring parts of a file, read at once."""

    parts: tuple[Part, ...]
    fill: Fill


class WeightFile(ABC):
    """An opened weight file. `tensors` says where each lies, in the order of the bytes."""

    def __init__(self, path: str, tensors: Mapping[str, TensorInfo]) -> None:
        self.path = path
        self.tensors = tensors

    @abstractmethod
    def runs(self, unit: int) -> Iterator[Run]:
        """Yield the whole data in order; no part crosses or ends within a tensor's `unit` bytes.

        Raises `BlockError` where blocks are fetched.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file. May be called twice."""


class FolderWeights(WeightFile):
    """A weight file of a folder; the descriptor that was checked is the one that is read."""

    def __init__(self, folder: Path, file: HashedFile, header_digest: bytes | None) -> None:
        """Open it. Raises `FileRefusedError` for another size or header than promised."""
        descriptor = open_beneath(folder, file.path)
        # Closed with the object, whether or not somebody remembers to.
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        try:
            size = os.fstat(descriptor).st_size
            if size != file.size:
                raise FileRefusedError(
                    file.path, f"has {size} bytes, the manifest says {file.size}"
                )
            length = header_length(os.pread(descriptor, 8, 0), size=size, path=file.path)
            head = os.pread(descriptor, length, 0)
            super().__init__(file.path, _proven(head, length, file, header_digest))
        except BaseException:
            self._close()
            raise

    def runs(self, unit: int) -> Iterator[Run]:
        """Yield readings of the descriptor; each may take place on another thread."""
        for start, parts in _plan(self.tensors, unit):
            yield Run(parts, partial(self._read, start))

    def close(self) -> None:
        """Close the descriptor."""
        self._close()

    def _read(self, start: int, places: Sequence[memoryview]) -> None:
        rest = list(places)
        while rest:
            count = os.preadv(self._descriptor, rest, start)
            if count == 0:
                raise FileRefusedError(self.path, "became shorter while it was read")
            start += count
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if count:
                rest[0] = rest[0][count:]


class BlockWeights(WeightFile):
    """A weight file of a block store; each block is verified as it comes."""

    def __init__(self, blocks: BlockStore, file: HashedFile, header_digest: bytes | None) -> None:
        """Read its header. Raises `FileRefusedError` and what the block store raises."""
        self._blocks = blocks
        self._file = file
        head = _Stream(self._pieces())
        length = header_length(head.take(8), size=file.size, path=file.path)
        head = _Stream(self._pieces())
        super().__init__(file.path, _proven(head.take(length), length, file, header_digest))

    def runs(self, unit: int) -> Iterator[Run]:
        """Fetch the blocks in order, on the caller's thread."""
        stream = _Stream(self._pieces())
        stream.take(min(info.start for info in self.tensors.values()))
        for _, parts in _plan(self.tensors, unit):
            size = sum(part.size for part in parts)
            data = memoryview(stream.take(size))
            if len(data) != size:
                raise FileRefusedError(self.path, "has fewer bytes than the manifest says")
            yield Run(parts, partial(_copy, data))

    def close(self) -> None:
        """Do nothing: a block store stays open."""

    def _pieces(self) -> Iterator[bytes]:
        return read_listed(self._blocks, self._file)


def read_listed(blocks: BlockStore, file: HashedFile) -> Iterator[bytes]:
    """Yield a listed file's bytes from a block store, each block verified.

    Raises what `read_file` raises, with the file's path before it: a CID alone tells nobody which
    file is at fault.
    """
    try:
        yield from read_file(blocks, file.cid, max_bytes=file.size)
    except BlockError as error:
        error.message = f"{file.path}: {error.message}"
        error.args = (error.message,)
        raise


class _Stream:
    """Pieces of any sizes, taken in portions of stated ones."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = b""

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end."""
        parts = [self._held]
        missing = size - len(self._held)
        while missing > 0 and (piece := next(self._pieces, b"")):
            parts.append(piece)
            missing -= len(piece)
        joined = b"".join(parts)
        self._held = joined[size:]
        return joined[:size]


def _proven(
    head: bytes, length: int, file: HashedFile, digest: bytes | None
) -> Mapping[str, TensorInfo]:
    if len(head) != length:
        raise FileRefusedError(file.path, "its safetensors header is cut off")
    if digest is not None and hashlib.sha256(head).digest() != digest:
        raise FileRefusedError(file.path, "its header is not the one in the manifest")
    return parse_header(head, size=file.size, path=file.path)


def _copy(data: memoryview, places: Sequence[memoryview]) -> None:
    start = 0
    for place in places:
        place[:] = data[start : start + len(place)]
        start += len(place)


def _plan(tensors: Mapping[str, TensorInfo], unit: int) -> Iterator[tuple[int, tuple[Part, ...]]]:
    """Yield (offset in the file, parts) of readings of about two megabytes."""
    step = max(unit, _RUN_BYTES // unit * unit)
    held: list[Part] = []
    begin = size = 0
    for name, info in tensors.items():
        for start in range(info.start, info.end, step):
            part = Part(name, start - info.start, min(step, info.end - start))
            if held and (size + part.size > step or len(held) == _RUN_PARTS):
                yield begin, tuple(held)
                held, size = [], 0
            if not held:
                begin = start
            held.append(part)
            size += part.size
    if held:
        yield begin, tuple(held)
