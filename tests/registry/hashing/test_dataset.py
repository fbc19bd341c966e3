from __future__ import annotations

import os
from pathlib import Path

import pytest

from registry.errors import FileRefusedError
from registry.hashing.dataset import HashedFile, hash_folder, root_of
from registry.ipfs.blockstore import FolderBlockStore, MemoryBlockStore
from registry.ipfs.cid import RAW, Cid
from registry.ipfs.unixfs import list_dir, read_file
from tests.registry.ipfs.vectors import VECTORS

MIB = 1 << 20
LEAF = Cid(RAW, bytes(32))


def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(3 * MIB))

    def change(_done: int) -> None:
        path.write_bytes(b"x" * 3 * MIB)
        os.utime(path, ns=(1, 1))

    with pytest.raises(FileRefusedError, match="data: changed"):
        hash_folder(tmp_path, progress=change, threads=1)


def test_a_file_that_shrinks_or_is_replaced_while_it_is_hashed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(3 * MIB))

    def replace(_done: int) -> None:
        (tmp_path / "data").unlink()
        (tmp_path / "data").symlink_to("/etc/passwd")

    with pytest.raises(FileRefusedError, match="symbolic link"):
        hash_folder(tmp_path, progress=replace, threads=1)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRefusedError):
        hash_folder(tmp_path)
    with pytest.raises(FileRefusedError):
        root_of([])


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"], ["a/b", "a"], ["../a"], ["a", "A"]])
def test_files_that_cannot_stand_in_one_folder_have_no_root(paths: list[str]) -> None:
    with pytest.raises(FileRefusedError):
        root_of(HashedFile(path, 1, LEAF) for path in paths)


def test_a_size_that_no_file_has_is_refused() -> None:
    for size in (-1, 1 << 41):
        with pytest.raises(FileRefusedError):
            root_of([HashedFile("a", size, LEAF)])


def test_a_folder_gets_the_cid_that_ipfs_gives_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "sub" / "b.txt").write_bytes(b"b")
    hashed = hash_folder(tmp_path)
    assert str(hashed.root) == VECTORS["simple"]["dir{a.txt:a,sub/b.txt:b}"]["v1-2025"]
    assert [(file.path, file.size) for file in hashed.files] == [("a.txt", 1), ("sub/b.txt", 1)]
    assert hashed.total_bytes == 2


def test_the_root_follows_from_the_listed_files_alone(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for number, size in enumerate([0, 1, MIB, MIB + 1, 5 * MIB]):
        (tmp_path / "x" / f"{number}").write_bytes(os.urandom(size))
    hashed = hash_folder(tmp_path)
    assert root_of(reversed(hashed.files)) == hashed.root
    first, second, *rest = hashed.files
    swapped = [HashedFile(first.path, second.size, second.cid)]
    swapped += [HashedFile(second.path, first.size, first.cid), *rest]
    assert root_of(swapped) != hashed.root


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_any_number_of_threads_gives_the_same_folder_and_all_of_its_blocks(
    tmp_path: Path, threads: int
) -> None:
    folder = tmp_path / "data"
    (folder / "many").mkdir(parents=True)
    contents = {f"many/{n:03}": bytes([n]) * n for n in range(100)}
    contents["big"] = bytes(range(256)) * 20000
    contents["empty"] = b""
    for path, data in contents.items():
        (folder / path).write_bytes(data)
    blocks = FolderBlockStore(tmp_path / "blocks")
    done: list[int] = []
    hashed = hash_folder(folder, sink=blocks, progress=done.append, threads=threads)
    assert hashed == hash_folder(folder, sink=MemoryBlockStore())
    assert sum(done) == hashed.total_bytes == sum(map(len, contents.values()))
    for file in hashed.files:
        assert b"".join(read_file(blocks, file.cid)) == contents[file.path]
    assert [entry.name for entry in list_dir(blocks, hashed.root)] == ["big", "empty", "many"]


def test_a_hard_link_may_be_hashed_but_not_when_that_is_forbidden(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"a")
    os.link(tmp_path / "data" / "a", tmp_path / "elsewhere")
    assert hash_folder(tmp_path / "data").total_bytes == 1
    with pytest.raises(FileRefusedError, match="hard link"):
        hash_folder(tmp_path / "data", allow_hard_links=False)
