"""One small change to bytes or names, of every kind that a disk, a network or an attacker makes.

A drawn change is small and says what it does: a failing case is read from its repr.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

_BYTES = (
    "flip a bit",
    "replace a byte",
    "swap two bytes",
    "swap two ranges",
    "zero a range",
    "insert",
    "append",
    "delete",
    "double a range",
    "truncate",
)
_FILES = ("swap", "rename", "move", "copy", "lose", "empty", "overwrite")


@dataclass(frozen=True)
class Change:
    """One change of some bytes: at one place, for some kinds also at another."""

    kind: str
    at: int
    other: int
    size: int
    new: bytes

    def of(self, data: bytes) -> bytes:
        """Return `data` changed: never the same bytes."""
        changed = self._changed(data)
        # Two equal bytes swapped, or zeros zeroed, would be no change.
        return changed if changed != data else _flipped(data, self.at, 1)

    def _changed(self, data: bytes) -> bytes:
        at, other, size, new = self.at, self.other, self.size, self.new
        match self.kind:
            case "flip a bit":
                return _flipped(data, at, 1 << size % 8)
            case "replace a byte":
                return data[:at] + new[:1] + data[at + 1 :]
            case "swap two bytes":
                return _swapped(data, at, other, 1)
            case "swap two ranges":
                return _swapped(data, at, other, size)
            case "zero a range":
                return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
            case "insert":
                return data[:at] + new + data[at:]
            case "append":
                return data + new
            case "delete":
                return data[:at] + data[at + size :]
            case "double a range":
                return data[: at + size] + data[at:]
            case _:
                return data[:at]


@dataclass(frozen=True)
class Misplacement:
    """The same contents under other names: nothing inside any file changes."""

    kind: str
    name: str
    other: str
    new_name: str

    def of(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the folder's files as they are afterwards."""
        rest = {path: data for path, data in files.items() if path != self.name}
        match self.kind:
            case "swap":
                return {**files, self.name: files[self.other], self.other: files[self.name]}
            case "rename":
                return {**rest, self.new_name: files[self.name]}
            case "move":
                return {**rest, f"inner/{self.name}": files[self.name]}
            case "copy":
                return {**files, self.new_name: files[self.name]}
            case "lose":
                return rest
            case "empty":
                return {**files, self.name: b""}
            case _:
                return {**files, self.name: files[self.other]}


def changes(data: bytes) -> st.SearchStrategy[Change]:
    """Changes of bytes as long as `data`."""
    return st.builds(
        Change,
        st.sampled_from(_BYTES),
        _places(len(data)),
        _places(len(data)),
        st.integers(1, 64),
        # What parsers skip or take for an end is what is let through most easily.
        st.sampled_from((b" ", b"\n", b"\0", b"{}", b"0")) | st.binary(min_size=1, max_size=9),
    )


@st.composite
def misplacements(draw: st.DrawFn, files: Mapping[str, bytes]) -> Misplacement:
    """Misplacements of at least two files of different contents."""
    name, other = draw(st.permutations(sorted(files)))[:2]
    new_name = draw(
        st.sampled_from(
            (f"{name}.bak", f".{name}", name.upper(), f"{name}x", name[:-1], f"x-{name}")
        )
    )
    return Misplacement(draw(st.sampled_from(_FILES)), name, other, new_name)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `folder` hold exactly these files; what is right already is left alone."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        elif path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.stat().st_size != len(data) or path.read_bytes() != data:
            path.write_bytes(data)


def _places(length: int) -> st.SearchStrategy[int]:
    """Any place, and more often the first and last ones, where formats keep their lengths."""
    last = length - 1
    return (
        st.integers(0, last) | st.integers(0, min(16, last)) | st.integers(max(0, last - 16), last)
    )


def _flipped(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def _swapped(data: bytes, at: int, other: int, size: int) -> bytes:
    at, other = sorted((at, other))
    size = min(size, other - at, len(data) - other)
    first, second = data[at : at + size], data[other : other + size]
    return data[:at] + second + data[at + size : other] + first + data[other + size :]
