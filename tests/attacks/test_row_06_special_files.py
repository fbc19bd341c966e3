"""Row 6: something else than a plain file where one is declared, or a way out of the folder."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.errors import FileRefusedError
from registry.hashing.walk import read_beneath
from tests.attacks.hall import Case, Hall
from tests.attacks.registered_victim import folder_of
from tests.attacks.victim import FIRST_SHARD, README

# Whoever opens a FIFO or reads an endless device would hang here.
pytestmark = pytest.mark.timeout(60)
PLACES = ("config.json", FIRST_SHARD, README)


def replaced(case: Case, name: str, make: Callable[[Path], object]) -> Path:
    """Put something else where a file was; return where the file went, outside the folder."""
    path = folder_of(case) / name
    elsewhere = folder_of(case).parent / "elsewhere"
    path.rename(elsewhere)
    make(path)
    return elsewhere


@pytest.mark.parametrize("name", PLACES)
def test_a_symbolic_link_is_refused_even_to_the_right_bytes(
    hall: Hall, spoilt: Case, name: str
) -> None:
    replaced(spoilt, name, lambda path: path.symlink_to(path.parent.parent / "elsewhere"))
    hall.refuses(spoilt, "is a symbolic link", path=name, seconds=10)


@pytest.mark.parametrize(
    "target", ["/dev/zero", "/proc/self/mem", "/etc/passwd", "nowhere", "config.json", "."]
)
def test_a_symbolic_link_is_not_followed_wherever_it_leads(
    hall: Hall, spoilt: Case, target: str
) -> None:
    """To endless bytes, to secrets, to nowhere, to itself, to its own folder."""
    replaced(spoilt, "config.json", lambda path: path.symlink_to(target))
    hall.refuses(spoilt, "is a symbolic link", path="config.json", seconds=10)


@pytest.mark.parametrize("name", PLACES)
def test_a_hard_link_is_refused_even_to_the_right_bytes(
    hall: Hall, spoilt: Case, name: str
) -> None:
    """Whoever holds the other name could write through it without touching the folder."""
    replaced(spoilt, name, lambda path: os.link(path.parent.parent / "elsewhere", path))
    hall.refuses(spoilt, "is a hard link", path=name, seconds=10)


def test_two_names_of_one_file_inside_the_folder_are_refused(hall: Hall, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(hall.folder, tmp_path / "linked"))
    (folder / "NOTICE.md").write_text("notice\n")
    os.link(folder / "NOTICE.md", folder / "README.md")
    case = hall.register(folder)
    hall.refuses(case, "is a hard link", path="NOTICE.md")
    # The same bytes as two separate files are what was registered.
    hall.accepts(Case(case.id, Path(shutil.copytree(folder, tmp_path / "separate"))))


@pytest.mark.parametrize("name", PLACES)
def test_a_fifo_is_refused_and_nobody_waits_for_it(hall: Hall, spoilt: Case, name: str) -> None:
    replaced(spoilt, name, os.mkfifo)
    hall.refuses(spoilt, "is a FIFO", path=name, seconds=10)


def test_a_fifo_that_would_deliver_the_right_bytes_is_refused(hall: Hall, spoilt: Case) -> None:
    elsewhere = replaced(spoilt, "config.json", os.mkfifo)
    fifo = folder_of(spoilt) / "config.json"
    # Opened for both ends, so that neither side ever waits.
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        os.write(descriptor, elsewhere.read_bytes())
        hall.refuses(spoilt, "is a FIFO", path="config.json", seconds=10)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", PLACES)
def test_a_socket_is_refused(
    hall: Hall, spoilt: Case, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bound by a relative name, because the absolute one may be too long for a socket.
    monkeypatch.chdir(folder_of(spoilt))
    with socket.socket(socket.AF_UNIX) as server:
        replaced(spoilt, name, lambda path: server.bind(path.name))
        hall.refuses(spoilt, "is a socket", path=name, seconds=10)


@pytest.mark.parametrize("number", [3, 5, 8], ids=["null", "zero", "random"])
def test_a_device_is_refused_and_not_read(hall: Hall, spoilt: Case, number: int) -> None:
    def make(path: Path) -> None:
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, number))
        except PermissionError:
            pytest.skip("making a device takes rights that this process does not have")

    replaced(spoilt, FIRST_SHARD, make)
    hall.refuses(spoilt, "is a device", path=FIRST_SHARD, seconds=10, growth_mb=20)


def test_every_device_is_refused_where_it_stands() -> None:
    for name in ("null", "zero", "urandom"):
        with pytest.raises(FileRefusedError, match=f"{name}: is a device"):
            next(read_beneath(Path("/dev"), name))


@pytest.mark.parametrize("name", PLACES)
def test_a_folder_where_a_file_is_declared_is_refused(hall: Hall, spoilt: Case, name: str) -> None:
    replaced(spoilt, name, Path.mkdir)
    hall.refuses(spoilt, "is an empty folder", path=name)
    (folder_of(spoilt) / name / "inner").write_bytes(b"")
    hall.refuses(spoilt, "is not in the manifest", path=f"{name}/inner")


def test_a_linked_folder_inside_is_refused_and_not_followed(hall: Hall, tmp_path: Path) -> None:
    """The files below are the registered ones: only the way to them is a link."""
    folder = Path(shutil.copytree(hall.folder, tmp_path / "nested"))
    (folder / "notes").mkdir()
    (folder / "notes" / "README.md").write_text("notes\n")
    case = hall.forge(folder)
    (folder / "notes").rename(tmp_path / "outside")
    (folder / "notes").symlink_to(tmp_path / "outside")
    hall.refuses(case, "is a symbolic link", path="notes")
    with pytest.raises(FileRefusedError, match="symbolic link or a file where a folder"):
        next(read_beneath(folder, "notes/README.md"))


def test_a_linked_folder_that_is_not_declared_is_refused(hall: Hall, spoilt: Case) -> None:
    (folder_of(spoilt) / "cache").symlink_to("/etc")
    hall.refuses(spoilt, "is a symbolic link", path="cache")


def test_a_link_that_leads_round_in_circles_is_refused(hall: Hall, spoilt: Case) -> None:
    folder = folder_of(spoilt)
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    hall.refuses(spoilt, "is a symbolic link", path="a", seconds=10)


def test_an_operator_may_reach_the_folder_by_a_link_of_his_own(
    hall: Hall, victim: Case, tmp_path: Path
) -> None:
    """Above the model's folder is the operator's business; below it every byte is proven."""
    (tmp_path / "current").symlink_to(folder_of(victim))
    hall.accepts(Case(victim.id, tmp_path / "current"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text("{}")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(tmp_path / "bad")
    hall.refuses(Case(victim.id, tmp_path / "current"), "is missing")


def test_nothing_waits_in_the_background_afterwards(hall: Hall, spoilt: Case) -> None:
    before = threading.active_count()
    replaced(spoilt, "config.json", os.mkfifo)
    hall.refuses_here(spoilt, "is a FIFO")
    assert threading.active_count() == before
