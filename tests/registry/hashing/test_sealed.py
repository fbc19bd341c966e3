from __future__ import annotations

import gc
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import FileRefusedError
from registry.hashing.sealed import SealedFile
from registry.hashing.walk import read_beneath
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.unixfs import file_cid, read_file

MIB = 1 << 20
CONTENT = bytes(range(251)) * 20000
CID, SIZE = file_cid([CONTENT])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def sealed() -> Iterator[SealedFile]:
    made = SealedFile.copy([CONTENT], CID, SIZE, "model.safetensors")
    yield made
    made.close()


@pytest.mark.parametrize("position", [0, MIB, SIZE - 1])
def test_one_flipped_bit_is_refused_and_no_memory_is_kept(position: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[position] ^= 1
    before = descriptors()
    with pytest.raises(FileRefusedError, match=r"^model\.safetensors: has the CID") as caught:
        SealedFile.copy([bytes(damaged)], CID, SIZE, "model.safetensors")
    assert caught.value.path == "model.safetensors"
    assert descriptors() == before


def test_a_file_shorter_than_declared_is_refused() -> None:
    for pieces in ([], [b""], [CONTENT[:-1]]):
        with pytest.raises(FileRefusedError, match="bytes, not"):
            SealedFile.copy(pieces, CID, SIZE, "a")


def test_a_file_that_never_ends_is_refused_at_its_declared_size() -> None:
    served = 0

    def endless() -> Iterator[bytes]:
        nonlocal served
        while True:
            served += MIB
            yield bytes(MIB)

    with pytest.raises(FileRefusedError, match="more than"):
        SealedFile.copy(endless(), CID, SIZE, "a")
    assert served <= SIZE + MIB


def test_right_bytes_under_a_larger_declared_size_are_refused() -> None:
    with pytest.raises(FileRefusedError):
        SealedFile.copy([CONTENT], CID, SIZE + 1, "a")


def test_sealed_memory_can_be_neither_written_nor_resized(sealed: SealedFile) -> None:
    descriptor = sealed._descriptor
    for change in (
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.ftruncate(descriptor, 0),
        lambda: os.ftruncate(descriptor, SIZE + 1),
        lambda: mmap.mmap(descriptor, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE),
        lambda: Path(f"/proc/self/fd/{descriptor}").write_bytes(b"x"),
    ):
        with pytest.raises(PermissionError):
            change()
    assert sealed.bytes() == CONTENT


def test_writing_to_a_view_changes_no_other_view(sealed: SealedFile) -> None:
    view = sealed.view()
    view[0:3] = b"bad"
    assert view[:3] == b"bad"
    assert sealed.view() == CONTENT
    assert sealed.bytes() == CONTENT


def test_what_happens_to_the_folder_after_the_copy_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(CONTENT)
    sealed = SealedFile.copy(read_beneath(tmp_path, "weights"), CID, SIZE, "weights")
    path.write_bytes(b"replaced")
    assert sealed.view() == CONTENT
    sealed.close()


def test_a_closed_file_gives_no_more_views_but_old_ones_stay() -> None:
    sealed = SealedFile.copy([CONTENT], CID, SIZE, "a")
    view = sealed.view()
    sealed.close()
    sealed.close()
    assert view == CONTENT
    with pytest.raises(FileRefusedError, match="closed"):
        sealed.view()
    with pytest.raises(FileRefusedError, match="closed"):
        sealed.bytes()


def test_a_forgotten_file_gives_its_memory_back() -> None:
    gc.collect()
    before = descriptors()
    SealedFile.copy([CONTENT], CID, SIZE, "a").view()
    gc.collect()
    assert descriptors() == before


def test_a_file_comes_from_a_block_store_as_well(sealed: SealedFile) -> None:
    blocks = MemoryBlockStore()
    file_cid([CONTENT], sink=blocks)
    other = SealedFile.copy(read_file(blocks, CID), CID, SIZE, "a", threads=1)
    assert other.view() == sealed.view()
    other.close()


def test_an_empty_file_is_a_file() -> None:
    cid, size = file_cid([])
    sealed = SealedFile.copy([], cid, size, "empty")
    assert sealed.bytes() == b""
    sealed.close()
