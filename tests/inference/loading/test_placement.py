"""Weights placed: each byte read once, hashed where it lies, and nothing else computes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.engine import placement
from inference.engine.placement import place
from inference.errors import LoadRefusedError
from inference.loader import load
from inference.resident import check_placed, same_place
from registry.errors import FileRefusedError
from registry.hashing.weight_file import Run, WeightFile
from registry.hashing.weights import TENSOR_1, TENSOR_2, TensorRule, hash_weights
from registry.manifest import ModelManifest
from registry.manifest_parts import TensorEntry
from registry.verify import VerifiedModel
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

CPU = torch.device("cpu")
NAME = "model.layers.1.mlp.up_proj.weight"
FILE = "model.safetensors"


@pytest.fixture
def verified(shelf: Shelf, tmp_path: Path) -> Iterator[VerifiedModel]:
    with shelf.verified(tiny_models.llama(tmp_path / "tiny"), task="chat") as found:
        yield found


def overwrite(path: Path, name: str, **values: float) -> None:
    """Write other numbers into a tensor, where its bytes lie in the file."""
    tensors = load_file(path)
    for at, value in values.items():
        tensors[name].view(-1)[int(at[1:])] = value
    save_file(tensors, path, metadata={"format": "pt"})


class Counting(WeightFile):
    """A weight file that counts how often each byte is read; the real one does the work."""

    def __init__(self, file: WeightFile) -> None:
        super().__init__(file.path, file.tensors)
        self._file = file
        self.read = {name: [0] * (i.end - i.start) for name, i in file.tensors.items()}

    def runs(self, unit: int) -> Iterator[Run]:
        for run in self._file.runs(unit):
            yield replace(run, fill=self._counted(run))

    def _counted(self, run: Run):  # type: ignore[no-untyped-def]  # a Fill
        def fill(places: Sequence[memoryview]) -> None:
            for part in run.parts:
                for at in range(part.start, part.start + part.size):
                    self.read[part.name][at] += 1
            run.fill(places)

        return fill

    def close(self) -> None:
        self._file.close()


def test_a_byte_changed_after_verifying_is_refused_by_file_and_tensor(
    shelf: Shelf, tmp_path: Path
) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    path = folder / FILE
    true = path.read_bytes()
    with shelf.verified(folder, task="chat") as verified:
        start = verified.weights[FILE].tensors[NAME].start
        with path.open("r+b") as file:
            file.seek(start + 1)
            file.write(bytes([true[start + 1] ^ 1]))
        with pytest.raises(LoadRefusedError, match=f"{FILE}: tensor {NAME} does not hash") as e:
            load(verified, device="cpu", threads=1)
    assert e.value.path == FILE


def test_a_file_cut_off_after_verifying_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    with shelf.verified(folder, task="chat") as verified:
        os.truncate(folder / FILE, 20_000)
        with pytest.raises(LoadRefusedError, match=f"{FILE}: became shorter"):
            load(verified, device="cpu", threads=1)


def test_a_file_replaced_after_verifying_does_not_matter(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    with shelf.verified(folder, task="chat") as verified:
        (folder / "evil").write_bytes(b"evil")
        os.rename(folder / "evil", folder / FILE)
        assert load(verified, device="cpu", threads=1).resident.changed() is None


@pytest.mark.parametrize(
    ("value", "rule"),
    [(float("nan"), "NaN or infinite"), (float("-inf"), "NaN or infinite")],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_registered_value_that_is_no_number_is_refused(
    shelf: Shelf, tmp_path: Path, dtype: torch.dtype, value: float, rule: str
) -> None:
    folder = tiny_models.llama(tmp_path / "tiny", dtype=dtype)
    overwrite(folder / FILE, NAME, _77=value)
    with (
        shelf.verified(folder, task="chat") as verified,
        pytest.raises(LoadRefusedError, match=f"{FILE}: tensor {NAME} has a value that is {rule}"),
    ):
        load(verified, device="cpu", threads=1)


def test_a_tensor_of_nothing_but_denormal_numbers_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    tensors = load_file(folder / FILE)
    tensors[NAME].fill_(1e-42)
    save_file(tensors, folder / FILE, metadata={"format": "pt"})
    with (
        shelf.verified(folder, task="chat") as verified,
        pytest.raises(LoadRefusedError, match=f"tensor {NAME} has no value but denormal"),
    ):
        load(verified, device="cpu", threads=1)


def test_every_byte_is_read_once(verified: VerifiedModel) -> None:
    file = Counting(verified.weights[FILE])
    place([file], CPU, TENSOR_2)
    assert all(set(counts) == {1} for counts in file.read.values())


@pytest.mark.parametrize("rule", [TENSOR_1, TENSOR_2])
def test_what_was_placed_has_the_digests_of_the_manifest(
    verified: VerifiedModel, rule: TensorRule
) -> None:
    done: list[int] = []
    placed = place(verified.weights.values(), CPU, rule, done.append)
    entries = verified.manifest.tensors
    assert sum(done) == sum(found.tensor.nbytes for found in placed.values())
    if rule is TENSOR_2:
        check_placed(placed, entries, rule)
    else:
        with pytest.raises(LoadRefusedError, match="does not hash"):
            check_placed(placed, entries, rule)


def test_tensors_lie_on_borders_that_processors_like(verified: VerifiedModel) -> None:
    placed = place(verified.weights.values(), CPU, TENSOR_2)
    starts = [found.tensor.data_ptr() for found in placed.values()]
    assert {(start - starts[0]) % 64 for start in starts} == {0}


def test_a_tensor_elsewhere_is_not_the_same_one() -> None:
    one = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert same_place(one, one.detach())
    for other in (one.clone(), one.view(torch.int32), one.reshape(3, 2), one.T, one[:1]):
        assert not same_place(other, one)


def test_sending_through_buffers_brings_the_same_bytes(verified: VerifiedModel) -> None:
    """The way to a GPU, with main memory at its end."""
    files = list(verified.weights.values())
    placed = placement._on_device(files, CPU)
    for found in placed.values():
        found.tensor.fill_(float("nan"))
    send = placement._Sending(placed, CPU)
    for file in files:
        for run in file.runs(TENSOR_2.chunk_bytes):
            send(run)
    expected = place(files, CPU, TENSOR_2)
    assert placed.keys() == expected.keys()
    assert all(torch.equal(placed[n].tensor, expected[n].tensor) for n in placed)


def test_an_entry_that_was_not_placed_is_refused_before(verified: VerifiedModel) -> None:
    placed = place(verified.weights.values(), CPU, TENSOR_2)
    (first, *_) = verified.manifest.tensors
    false = TensorEntry(first.file, first.name, first.dtype, first.shape, bytes(32))
    with pytest.raises(LoadRefusedError, match=f"tensor {first.name} does not hash"):
        check_placed(placed, (false,), TENSOR_2)


@pytest.mark.parametrize("from_blocks", [False, True])
def test_a_model_of_the_first_manifest_format_still_loads(
    shelf: Shelf, tmp_path: Path, from_blocks: bool
) -> None:
    folder = tiny_models.llama(tmp_path / "tiny")
    with shelf.verified(folder, task="chat") as newer:
        expected = load(newer, device="cpu", threads=1)
    older = first_format(newer.manifest, folder)
    assert older.format == "weightproof/model@1"
    with shelf.recorded(older, folder=None if from_blocks else folder) as verified:
        loaded = load(verified, device="cpu", threads=1)
        weights = loaded.module.get_parameter(NAME)
        assert torch.equal(weights, expected.module.get_parameter(NAME))
        assert loaded.resident.changed() is None
    with (folder / FILE).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x99")
    with pytest.raises(FileRefusedError, match=f"{FILE}: has the CID"):
        shelf.recorded(older, folder=folder)


def first_format(manifest: ModelManifest, folder: Path) -> ModelManifest:
    """Return the manifest that the first version of the format would have had."""
    data = memoryview((folder / FILE).read_bytes())
    tensors = tuple(
        TensorEntry(FILE, tensor.name, tensor.dtype, tensor.shape, tensor.digest)
        for tensor in hash_weights(data, rule=TENSOR_1)
    )
    return replace(manifest, tensors=tensors, headers={}, golden=None)
