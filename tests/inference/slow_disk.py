"""A slow disk: SQLite's own file system, whose every fsync waits as long as a test wants.

It is registered with the SQLite library that Python uses, as any file system of SQLite is
(https://www.sqlite.org/vfs.html); all but `xSync` of an opened file is the system's.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_OK = 0
# From sqlite3.h: both structs hold an int (and two more) first, then pointers only.
_VFS_BYTES, _VFS_NAME, _VFS_OPEN = 22 * 8, 24, 40
_METHODS_BYTES, _METHODS_SYNC = 19 * 8, 40
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int,
    ctypes.c_void_p,
)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class SlowDisk:
    """Notes which thread waits for the disk; lets nobody go on while it is `stuck`."""

    def __init__(self) -> None:
        self.waited: list[int] = []
        self._free = threading.Event()
        self._free.set()
        self._kept: list[Any] = []  # what SQLite points to
        self._methods: dict[int, int] = {}

    @contextmanager
    def stuck(self) -> Iterator[None]:
        """Hold every fsync until the block ends."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def file_system(self, system: int) -> ctypes.Array[ctypes.c_char]:
        """Return a copy of the file system at `system` whose files are on this disk."""
        copied = ctypes.create_string_buffer(ctypes.string_at(system, _VFS_BYTES), _VFS_BYTES)
        really_open = _OPEN(_pointer(system, _VFS_OPEN))

        def opened(vfs: int, name: int, file: int, flags: int, out: int) -> int:
            result = int(really_open(vfs, name, file, flags, out))
            methods = _pointer(file, 0)
            if methods:
                ctypes.c_void_p.from_address(file).value = self._slow(methods)
            return result

        self._keep(copied, _VFS_OPEN, _OPEN(opened))
        self._keep(copied, _VFS_NAME, ctypes.create_string_buffer(b"slow"))
        return copied

    def _slow(self, methods: int) -> int:
        """Return the methods of a file whose fsync is ours, made once for each kind."""
        if methods not in self._methods:
            copied = ctypes.create_string_buffer(
                ctypes.string_at(methods, _METHODS_BYTES), _METHODS_BYTES
            )
            really_sync = _SYNC(_pointer(methods, _METHODS_SYNC))

            def synced(file: int, flags: int) -> int:
                self.waited.append(threading.get_ident())
                self._free.wait()
                return int(really_sync(file, flags))

            self._keep(copied, _METHODS_SYNC, _SYNC(synced))
            self._methods[methods] = ctypes.addressof(copied)
        return self._methods[methods]

    def _keep(self, struct: ctypes.Array[ctypes.c_char], at: int, what: Any) -> None:
        """Write the address of `what` into a struct, and let neither be collected."""
        address = ctypes.cast(what, ctypes.c_void_p).value
        ctypes.c_void_p.from_buffer(struct, at).value = address
        self._kept += [struct, what]


@contextmanager
def slow_disk() -> Iterator[SlowDisk]:
    """Have what is opened from now on lie on a slow disk; close it before the block ends."""
    library = ctypes.CDLL(_sqlite3.__file__)  # the SQLite it is linked with
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    system = library.sqlite3_vfs_find(None)
    disk = SlowDisk()
    slow = disk.file_system(system)
    assert library.sqlite3_vfs_register(slow, 1) == _OK
    try:
        yield disk
    finally:
        library.sqlite3_vfs_unregister(slow)
        assert library.sqlite3_vfs_register(ctypes.c_void_p(system), 1) == _OK


def _pointer(struct: int, at: int) -> int:
    return ctypes.c_void_p.from_address(struct + at).value or 0
