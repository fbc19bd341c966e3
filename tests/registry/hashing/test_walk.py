from __future__ import annotations

import os
import socket
import unicodedata
from pathlib import Path

import pytest

from registry.errors import FileRefusedError
from registry.hashing.walk import check_path, check_paths, open_beneath, read_beneath, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good file; each test adds a bad one."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "good").write_bytes(b"good")
    return made


def test_a_symbolic_link_is_refused(folder: Path) -> None:
    (folder / "bad").symlink_to("good")
    with pytest.raises(FileRefusedError, match="bad: is a symbolic link"):
        walk(folder)
    with pytest.raises(FileRefusedError, match="bad: is a symbolic link"):
        open_beneath(folder, "bad")


def test_a_symbolic_link_to_nowhere_is_refused(folder: Path) -> None:
    (folder / "bad").symlink_to("/nowhere")
    with pytest.raises(FileRefusedError, match="symbolic link"):
        walk(folder)


def test_a_linked_folder_is_refused_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (folder / "bad").symlink_to(tmp_path / "outside")
    with pytest.raises(FileRefusedError, match="symbolic link"):
        walk(folder)
    with pytest.raises(FileRefusedError, match="symbolic link"):
        open_beneath(folder, "bad/secret")


def test_a_hard_link_is_refused_unless_allowed(folder: Path, tmp_path: Path) -> None:
    os.link(folder / "good", tmp_path / "other")
    with pytest.raises(FileRefusedError, match="hard link") as caught:
        walk(folder)
    assert caught.value.hint
    assert [file.path for file in walk(folder, allow_hard_links=True)] == ["good"]


def test_a_fifo_is_refused_and_nobody_waits_for_it(folder: Path) -> None:
    os.mkfifo(folder / "bad")
    with pytest.raises(FileRefusedError, match="FIFO"):
        walk(folder)
    with pytest.raises(FileRefusedError, match="FIFO"):
        open_beneath(folder, "bad")


def test_a_socket_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Bound by a relative name, because the absolute one may be too long for a socket.
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("bad")
        with pytest.raises(FileRefusedError, match="socket"):
            walk(folder)


def test_a_device_is_refused() -> None:
    with pytest.raises(FileRefusedError, match="device"):
        open_beneath(Path("/dev"), "null")


def test_a_folder_where_a_file_should_be_is_refused(folder: Path) -> None:
    (folder / "bad").mkdir()
    with pytest.raises(FileRefusedError, match="folder where a file"):
        open_beneath(folder, "bad")
    with pytest.raises(FileRefusedError, match="file where a folder"):
        open_beneath(folder, "good/bad")


def test_an_empty_folder_inside_is_refused(folder: Path) -> None:
    (folder / "bad").mkdir()
    with pytest.raises(FileRefusedError, match="bad: is an empty folder"):
        walk(folder)


def test_a_missing_file_or_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileRefusedError, match="absent: is missing"):
        open_beneath(folder, "absent")
    with pytest.raises(FileRefusedError, match="not a readable folder"):
        walk(tmp_path / "absent")
    with pytest.raises(FileRefusedError, match="not a readable folder"):
        walk(folder / "good")


@pytest.mark.parametrize(
    "name",
    [
        b"back\\slash",
        b"line\nbreak",
        b"escape\x1b[2J",
        b"dot.",
        b"space ",
        "e\N{COMBINING ACUTE ACCENT}".encode(),
        "left\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe".encode(),
        "zero\N{ZERO WIDTH SPACE}width".encode(),
        b"not utf-8 \xff",
        b"C:",
    ],
    ids=repr,
)
def test_an_odd_name_on_the_disk_is_refused_and_printed_safely(folder: Path, name: bytes) -> None:
    with open(os.fsencode(folder) + b"/" + name, "wb"):
        pass
    with pytest.raises(FileRefusedError) as caught:
        walk(folder)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "./a",
        "a/.",
        "/etc/passwd",
        "a//b",
        "a/",
        "a\\b",
        "C:/x",
        "c:x",
        "a\0b",
        "a\x7fb",
        "a\x85b",
        "a\N{LINE SEPARATOR}b",
        "a./b",
        "a /b",
        "a/b.",
        "a\ud800",
        unicodedata.normalize("NFD", "é"),
        "x" * 256,
        "é" * 128,
        "/".join(["x" * 200] * 11),
        "/".join("x" * 33),
    ],
    ids=lambda path: ascii(path)[:20],
)
def test_a_path_that_could_mean_two_things_is_refused(path: str) -> None:
    with pytest.raises(FileRefusedError):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b", ".hidden", "x" * 255, "ünï/日本.txt", "a b", "10:30"])
def test_a_plain_path_is_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "paths",
    [
        ["a", "a"],
        ["a", "A"],
        ["straße", "STRASSE"],
        ["a", "\N{FULLWIDTH LATIN SMALL LETTER A}"],
        ["fi", "\N{LATIN SMALL LIGATURE FI}"],
        ["d/a", "D/b"],
        ["a", "a/b"],
        ["A", "a/b"],
    ],
    ids=ascii,
)
def test_two_paths_that_are_one_file_on_some_system_are_refused(paths: list[str]) -> None:
    with pytest.raises(FileRefusedError):
        check_paths(paths)
    with pytest.raises(FileRefusedError):
        check_paths(reversed(paths))


def test_files_are_listed_with_hidden_ones_sorted_by_path(folder: Path) -> None:
    (folder / "b" / "c").mkdir(parents=True)
    (folder / "b" / "c" / "x").write_bytes(b"12")
    (folder / "b.txt").write_bytes(b"1")
    (folder / ".hidden").write_bytes(b"")
    found = walk(folder)
    assert [(file.path, file.size) for file in found] == [
        (".hidden", 0),
        ("b.txt", 1),
        ("b/c/x", 2),
        ("good", 4),
    ]
    assert found[2].absolute.read_bytes() == b"12"


def test_a_file_is_read_in_pieces(folder: Path) -> None:
    (folder / "big").write_bytes(bytes(range(256)) * 10000)
    pieces = list(read_beneath(folder, "big"))
    assert [len(piece) for piece in pieces] == [1 << 20, 1 << 20, 2560000 - (2 << 20)]
    assert b"".join(pieces) == bytes(range(256)) * 10000
    assert list(read_beneath(folder, "good")) == [b"good"]
