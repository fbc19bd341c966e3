"""Weight files: opened once, their layout proven, their bytes handed out in order and only once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.errors import BlockCorruptError, FileRefusedError
from registry.hashing.dataset import HashedFile, hash_folder
from registry.hashing.safetensors_header import header_bytes
from registry.hashing.weight_file import BlockWeights, FolderWeights, WeightFile
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.cid import Cid

UNIT = 64 * 1024
NAME = "model.safetensors"


class Made:
    """A weight file in a folder and in a block store, with the digest of its header."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(3)
        folder.mkdir()
        self.folder = folder
        self.path = folder / NAME
        self.tensors = {
            "large": random.standard_normal((900, 1000)).astype(np.float32),
            **{f"small.{n:04}": random.bytes(3 + n % 5) for n in range(1500)},
            "whole": random.bytes(3 * UNIT),
        }
        arrays = {
            name: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
            for name, value in self.tensors.items()
        }
        save_file(arrays, self.path)
        self.bytes = self.path.read_bytes()
        self.blocks = MemoryBlockStore()
        (self.file,) = hash_folder(folder, sink=self.blocks).files
        self.header = hashlib.sha256(header_bytes(memoryview(self.bytes))).digest()

    def from_folder(self) -> WeightFile:
        return FolderWeights(self.folder, self.file, self.header)

    def from_blocks(self) -> WeightFile:
        return BlockWeights(self.blocks, self.file, self.header)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "model")


def read(file: WeightFile) -> dict[str, bytes]:
    """Read every run, as a loader does."""
    found = {name: bytearray(info.end - info.start) for name, info in file.tensors.items()}
    filled = dict.fromkeys(found, 0)
    for run in file.runs(UNIT):
        run.fill([memoryview(found[p.name])[p.start : p.start + p.size] for p in run.parts])
        for part in run.parts:
            # In order and without a gap: nothing is read twice, nothing left out.
            assert part.start == filled[part.name]
            assert part.start % UNIT == 0
            filled[part.name] += part.size
    assert filled == {name: len(data) for name, data in found.items()}
    return {name: bytes(data) for name, data in found.items()}


SOURCES: list[Callable[[Made], WeightFile]] = [Made.from_folder, Made.from_blocks]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("at", [0, 8, 100])
def test_a_header_with_another_byte_is_refused(
    made: Made, source: Callable[[Made], WeightFile], at: int
) -> None:
    made.header = hashlib.sha256(b"another").digest()
    with pytest.raises(FileRefusedError, match=f"{NAME}: its header is not the one"):
        source(made)


def test_a_header_of_another_length_is_refused(made: Made) -> None:
    for length in (0, 2**63, len(made.bytes), 50):
        made.path.write_bytes(length.to_bytes(8, "little") + made.bytes[8:])
        with pytest.raises(FileRefusedError, match=r"its (safetensors )?header"):
            made.from_folder()


def test_a_file_of_another_size_is_refused(made: Made) -> None:
    for data in (made.bytes[:-1], made.bytes + b"\0", b""):
        made.path.write_bytes(data)
        with pytest.raises(FileRefusedError, match=rf"has {len(data)} bytes"):
            made.from_folder()


def test_a_file_that_shrinks_after_it_was_opened_is_refused(made: Made) -> None:
    file = made.from_folder()
    os.truncate(made.path, 1_000_000)
    with pytest.raises(FileRefusedError, match="became shorter"):
        read(file)
    file.close()


def test_a_store_whose_file_is_shorter_than_listed_is_refused(made: Made) -> None:
    made.file = HashedFile(NAME, made.file.size + 8, made.file.cid)
    with pytest.raises(FileRefusedError, match="its tensors end at"):
        made.from_blocks()


def test_a_store_that_gives_other_bytes_is_refused(made: Made) -> None:
    made.file = HashedFile(NAME, made.file.size, Cid(made.file.cid.codec, b"\1" * 32))
    with pytest.raises(Exception, match="not in memory"):
        made.from_blocks()
    made.file = HashedFile(NAME, 10, hash_folder(made.folder).files[0].cid)
    with pytest.raises(BlockCorruptError, match="limit 10"):
        made.from_blocks()


def test_nothing_stays_open_after_a_refusal_or_a_close(made: Made) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = made.from_folder()
    file.close()
    file.close()
    made.header = bytes(32)
    with pytest.raises(FileRefusedError):
        made.from_folder()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("source", SOURCES)
def test_every_byte_comes_once_and_in_its_place(
    made: Made, source: Callable[[Made], WeightFile]
) -> None:
    file = source(made)
    expected = {
        name: value if isinstance(value, bytes) else value.tobytes()
        for name, value in made.tensors.items()
    }
    assert read(file) == expected
    file.close()


def test_what_was_opened_is_what_is_read_whatever_takes_its_name(made: Made) -> None:
    file = made.from_folder()
    (made.folder / "other").write_bytes(b"evil")
    os.rename(made.folder / "other", made.path)
    assert read(file)["whole"] == made.tensors["whole"]
    file.close()


def test_no_run_is_scattered_over_more_places_than_the_system_takes(made: Made) -> None:
    file = made.from_folder()
    runs = list(file.runs(UNIT))
    assert max(len(run.parts) for run in runs) == 512
    assert all(sum(part.size for part in run.parts) <= 2 * 1024 * 1024 for run in runs)
    file.close()
