from __future__ import annotations

from pathlib import Path

import pytest

from registry.errors import BlockCorruptError, BlockMissingError, BlockStoreError
from registry.ipfs.blockstore import (
    MAX_BLOCK_BYTES,
    FolderBlockStore,
    LayeredBlockStore,
    MemoryBlockStore,
)
from registry.ipfs.cid import DAG_PB, RAW, Cid, Codec


class LyingBlockStore:
    """A store that returns the same bytes for every name and does not verify."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def get(self, cid: Cid) -> bytes:
        return self.data

    def put(self, codec: Codec, data: bytes) -> Cid:
        return Cid.of_block(codec, data)

    def has(self, cid: Cid) -> bool:
        return True


@pytest.fixture
def folder(tmp_path: Path) -> FolderBlockStore:
    return FolderBlockStore(tmp_path / "blocks")


def file_of(tmp_path: Path, cid: Cid) -> Path:
    (path,) = tmp_path.rglob(str(cid))
    return path


def test_a_block_nobody_put_is_missing(folder: FolderBlockStore) -> None:
    for store in (folder, MemoryBlockStore()):
        assert not store.has(Cid(RAW, bytes(32)))
        with pytest.raises(BlockMissingError):
            store.get(Cid(RAW, bytes(32)))


@pytest.mark.parametrize("damage", [b"", b"othe", b"other bytes", bytes(3 * MAX_BLOCK_BYTES)])
def test_a_damaged_file_is_reported_and_healed_by_putting_again(
    folder: FolderBlockStore, tmp_path: Path, damage: bytes
) -> None:
    cid = folder.put(RAW, b"other")
    file_of(tmp_path, cid).write_bytes(damage)
    with pytest.raises(BlockCorruptError) as caught:
        folder.get(cid)
    assert caught.value.cid == str(cid)
    folder.put(RAW, b"other")
    assert folder.get(cid) == b"other"


def test_a_block_over_two_mebibytes_is_refused(folder: FolderBlockStore) -> None:
    for store in (folder, MemoryBlockStore()):
        with pytest.raises(BlockStoreError):
            store.put(RAW, bytes(MAX_BLOCK_BYTES + 1))


def test_a_folder_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = FolderBlockStore(tmp_path / "file")
    with pytest.raises(BlockStoreError) as caught:
        store.put(RAW, b"x")
    assert caught.value.hint
    with pytest.raises(BlockStoreError):
        store.get(Cid(RAW, bytes(32)))


def test_a_failed_write_leaves_nothing_behind(folder: FolderBlockStore, tmp_path: Path) -> None:
    """The target is a folder, so the rename fails after the bytes were written."""
    cid = folder.put(RAW, b"x")
    path = file_of(tmp_path, cid)
    path.unlink()
    path.mkdir()
    with pytest.raises(BlockStoreError):
        folder.put(RAW, b"x")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_layer_that_sends_other_bytes_is_passed_over() -> None:
    good, local = MemoryBlockStore(), MemoryBlockStore()
    cid = good.put(RAW, b"good")
    assert LayeredBlockStore([local, LyingBlockStore(b"bad"), good]).get(cid) == b"good"
    assert local.get(cid) == b"good"


def test_when_only_liars_have_a_block_it_is_corrupt_and_not_missing() -> None:
    layered = LayeredBlockStore([MemoryBlockStore(), LyingBlockStore(b"bad"), MemoryBlockStore()])
    with pytest.raises(BlockCorruptError):
        layered.get(Cid.of_block(RAW, b"good"))


def test_when_all_layers_lack_a_block_it_is_missing() -> None:
    layered = LayeredBlockStore([MemoryBlockStore(), MemoryBlockStore()])
    cid = Cid(DAG_PB, bytes(32))
    assert not layered.has(cid)
    with pytest.raises(BlockMissingError) as caught:
        layered.get(cid)
    assert caught.value.cid == str(cid)


def test_a_corrupt_local_block_is_fetched_again_and_replaced(
    folder: FolderBlockStore, tmp_path: Path
) -> None:
    remote = MemoryBlockStore()
    cid = remote.put(RAW, b"good")
    folder.put(RAW, b"good")
    file_of(tmp_path, cid).write_bytes(b"evil")
    assert LayeredBlockStore([folder, remote]).get(cid) == b"good"
    assert folder.get(cid) == b"good"


def test_no_layers_are_refused() -> None:
    with pytest.raises(BlockStoreError):
        LayeredBlockStore([])


def test_a_put_block_comes_back_under_its_codec(folder: FolderBlockStore) -> None:
    layered = LayeredBlockStore([folder])
    raw, node = layered.put(RAW, b"same"), layered.put(DAG_PB, b"same")
    assert raw != node
    assert layered.get(raw) == layered.get(node) == b"same"
    assert layered.has(raw)
    assert layered.has(node)
