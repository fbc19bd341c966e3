"""Files that were verified as they were copied and that nobody, not even we, can change since.

The copy lives in memory (a sealed memfd): whatever happens to the folder it came from, the bytes
that were hashed are the bytes that are loaded.
"""

from __future__ import annotations

import builtins
import fcntl
import mmap
import os
import weakref
from collections.abc import Iterable, Iterator
from typing import Final

from registry.errors import FileRefusedError
from registry.hashing.parallel import parallel_map
from registry.ipfs.cid import Cid
from registry.ipfs.unixfs import UnixfsBuilder, chunks

_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class SealedFile:
    """A verified private copy of one file. Obtained from `copy` only; `close` frees the memory.

    Memory already handed out by `view` stays valid after `close`.
    """

    def __init__(self, descriptor: int, path: str, cid: Cid, size: int) -> None:
        self.path = path
        self.cid = cid
        self.size = size
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @classmethod
    def copy(
        cls,
        pieces: Iterable[builtins.bytes],
        expect_cid: Cid,
        expect_size: int,
        path: str,
        *,
        threads: int | None = None,
    ) -> SealedFile:
        """Copy a file's bytes into sealed memory, hashing what is written, in one pass.

        `pieces` come from a folder (`read_beneath`) or a block store (`read_file`); `path` is
        what errors call the file. Raises `FileRefusedError` when the bytes are too many, too few
        or not those of `expect_cid`; nothing stays in memory then.
        """
        descriptor = os.memfd_create("weightproof", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        sealed = cls(descriptor, path, expect_cid, expect_size)
        try:
            builder = UnixfsBuilder()
            written = chunks(sealed._write(pieces), builder.profile.chunk_bytes)
            file = builder.tree(parallel_map(builder.leaf, written, threads=threads))
            if file.size != expect_size:
                raise FileRefusedError(path, f"has {file.size} bytes, not {expect_size}")
            if file.cid != expect_cid:
                raise FileRefusedError(path, f"has the CID {file.cid}, not {expect_cid}")
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            sealed.close()
            raise
        return sealed

    def view(self) -> memoryview:
        """Return the bytes as writable memory of the caller's own (copy on write).

        Writing changes only this view; it is writable because torch asks that of a buffer.
        """
        if self.size == 0:
            return memoryview(bytearray())
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        return memoryview(
            mmap.mmap(self._open_descriptor(), self.size, mmap.MAP_PRIVATE, protection)
        )

    def bytes(self) -> builtins.bytes:
        """Return a copy of the bytes; for small files such as configurations."""
        return self.view().tobytes()

    def close(self) -> None:
        """Give the memory back as soon as no view uses it. May be called twice."""
        self._close()

    def _write(self, pieces: Iterable[builtins.bytes]) -> Iterator[builtins.bytes]:
        left = self.size
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise FileRefusedError(self.path, f"has more than {self.size} bytes")
            _write_all(self._descriptor, piece, self.path)
            yield piece

    def _open_descriptor(self) -> int:
        if not self._close.alive:
            raise FileRefusedError(self.path, "was closed and is no longer in memory")
        return self._descriptor


def _write_all(descriptor: int, piece: builtins.bytes, path: str) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise FileRefusedError(path, f"does not fit into memory: {error.strerror}") from error
