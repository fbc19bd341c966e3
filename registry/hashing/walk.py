"""Folders as lists of plain files: what may be hashed and loaded, and by which names.

A name that two systems could read as two different files, and a file that is more or less than
its own bytes, are refused by one clear rule each.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from registry.errors import FileRefusedError
from registry.hashing.lookalikes import seen

# The limit of every file system in common use, in bytes of UTF-8.
MAX_NAME_BYTES: Final = 255
# Linux takes paths of 4096 bytes; a folder needs room above it.
MAX_PATH_BYTES: Final = 2048
MAX_DEPTH: Final = 32
MAX_FILES: Final = 1_000_000
# One read; equals a chunk of the IPFS profile, so that reading is not cut twice.
PIECE_BYTES: Final = 1024 * 1024
_DRIVE: Final = re.compile(r"[A-Za-z]:")
# Control, format (invisible, right-to-left), surrogate, private, unassigned; line separators.
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@dataclass(frozen=True, slots=True, order=True)
class FoundFile:
    """One regular file: `path` is relative with slashes, `absolute` where it was found.

    `stamp` (device, inode, size, time of change) tells later whether it is still that file.
    """

    path: str
    absolute: Path
    size: int
    stamp: tuple[int, int, int, int]


def walk(folder: Path, *, allow_hard_links: bool = False) -> tuple[FoundFile, ...]:
    """Return every file below `folder`, sorted by path. Hidden files count like others.

    A file with a second name elsewhere can be changed through it, so hard links are refused
    unless the caller reads the bytes only once and trusts whoever owns them.

    Raises `FileRefusedError` that names the file and the rule: a symbolic or hard link, FIFO,
    socket or device; a name that `check_path` refuses; an empty directory (a manifest cannot
    list it); more than 32 levels or a million files; no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FileRefusedError(
            str(folder), f"is not a readable folder: {error.strerror}"
        ) from error
    found: list[FoundFile] = []
    try:
        for file in _below(descriptor, folder, "", allow_hard_links):
            found.append(file)
            if len(found) > MAX_FILES:
                raise FileRefusedError(str(folder), f"has more than {MAX_FILES} files")
    except OSError as error:
        name = _shown(str(error.filename or folder))
        raise FileRefusedError(name, f"cannot be listed: {error.strerror}") from error
    finally:
        os.close(descriptor)
    check_paths(file.path for file in found)
    return tuple(sorted(found))


def check_path(path: str) -> str:
    """Return `path` if it may name a file of a manifest. Raises `FileRefusedError`.

    Refused: absolute paths, `..`, `.`, empty components, backslashes, drive letters, control
    and invisible characters, text that is not NFC or not UTF-8, components that end in a dot or
    space or exceed 255 bytes, paths over 2048 bytes or 32 levels.
    """
    parts = path.split("/")
    for part in parts:
        rule = _broken_rule(part)
        if rule:
            raise FileRefusedError(_shown(path), rule)
    if _DRIVE.match(path):
        raise FileRefusedError(_shown(path), "begins with a drive letter")
    if len(path.encode()) > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise FileRefusedError(
            _shown(path), f"is longer than {MAX_PATH_BYTES} bytes or {MAX_DEPTH} levels"
        )
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Check each path, and that no two are one file on some system. Raises `FileRefusedError`.

    Two paths clash when they differ only in case, in compatibility forms of a character
    (full-width letters, ligatures) or in letters that look alike (a Cyrillic and a Latin one), or
    when one names a folder of the other.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        key = _folded(check_path(path))
        if key in files:
            raise FileRefusedError(
                _shown(path), f"is or looks like the same name as {_shown(files[key])}"
            )
        files[key] = path
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            parent = "/".join(parts[:depth])
            known = folders.setdefault(_folded(parent), parent)
            if known != parent:
                raise FileRefusedError(_shown(path), f"is in the same folder as {_shown(known)}")
    for key in files.keys() & folders.keys():
        raise FileRefusedError(_shown(files[key]), "is a file and also a folder")


def open_beneath(folder: Path, path: str) -> int:
    """Open a regular file below `folder` for reading; the caller closes the descriptor.

    No component of `path` is followed if it is a link. Raises `FileRefusedError` when the file
    is missing, of another kind, or its path is refused by `check_path`.
    """
    check_path(path)
    *parents, name = path.split("/")
    directory = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        at = os.open(folder, directory)
        try:
            for parent in parents:
                below = os.open(parent, directory | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = below
            return _open_regular(name, at, path)
        finally:
            os.close(at)
    except OSError as error:
        raise FileRefusedError(path, _open_failure(error)) from error


def read_beneath(folder: Path, path: str) -> Iterator[bytes]:
    """Yield the bytes of a file below `folder` in pieces of 1 MiB. Raises like `open_beneath`."""
    with os.fdopen(open_beneath(folder, path), "rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file is written or replaced."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _below(
    descriptor: int, folder: Path, prefix: str, allow_hard_links: bool
) -> Iterator[FoundFile]:
    with os.scandir(descriptor) as listing:
        names = sorted(entry.name for entry in listing)
    if not names:
        raise FileRefusedError(prefix or str(folder), "is an empty folder, which no manifest lists")
    for name in names:
        path = check_path(f"{prefix}/{name}" if prefix else name)
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(name, flags, dir_fd=descriptor)
            try:
                yield from _below(below, folder, path, allow_hard_links)
            finally:
                os.close(below)
            continue
        _check_kind(path, status)
        if status.st_nlink > 1 and not allow_hard_links:
            raise FileRefusedError(
                path,
                "is a hard link: its bytes can be changed through another name",
                hint="Copy the folder (cp -r makes separate files).",
            )
        yield FoundFile(path, folder / path, status.st_size, stamp_of(status))


def _open_regular(name: str, at: int, path: str) -> int:
    # Looked at before it is opened: opening a device or a FIFO can have effects of its own.
    _check_kind(path, os.stat(name, dir_fd=at, follow_symlinks=False))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=at)
    try:
        _check_kind(path, os.fstat(descriptor))
    except FileRefusedError:
        os.close(descriptor)
        raise
    return descriptor


def _check_kind(path: str, status: os.stat_result) -> None:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFDIR: "a folder where a file should be",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    if kind:
        raise FileRefusedError(path, f"is {kind}, not a plain file")


def _open_failure(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "is missing"
        case errno.ELOOP | errno.ENOTDIR:
            return "has a symbolic link or a file where a folder should be"
        case _:
            return f"cannot be opened: {error.strerror}"


def _broken_rule(part: str) -> str:
    if part in ("", ".", ".."):
        return f"has the component {part!r}"
    if "\\" in part:
        return "has a backslash"
    if any(unicodedata.category(character) in _INVISIBLE for character in part):
        return "has a control, invisible or undecodable character"
    if part[-1] in ". ":
        return "has a component that ends in a dot or a space"
    if len(part.encode()) > MAX_NAME_BYTES:
        return f"has a component of more than {MAX_NAME_BYTES} bytes"
    if not unicodedata.is_normalized("NFC", part):
        return "is not in Unicode normal form C"
    return ""


def _folded(path: str) -> str:
    # Upper and lower case look like different letters, so looks come before case.
    looks = seen(unicodedata.normalize("NFKC", path))
    return unicodedata.normalize("NFKC", looks.casefold())


def _shown(path: str) -> str:
    """Text for a terminal: a hostile name must not move the cursor."""
    return path.encode("unicode_escape").decode()[:400]
