"""Tensors hashed where they lie: a changed bit is found and named."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.errors import ModelStoppedError
from inference.loader import LoadedModel, load
from inference.resident import ResidentTensors, tensor_digests
from registry.hashing.resident_digest import resident_digest
from registry.hashing.weights import tensor_digest
from tests.inference import tiny_models
from tests.inference.shelf import Shelf


def tensor_digest_of(tensor: torch.Tensor) -> bytes:
    return next(tensor_digests([tensor]))


NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def loaded(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    folder = tiny_models.llama(tmp_path / "tiny", dtype=torch.bfloat16, tied=True)
    with shelf.verified(folder, task="chat") as verified:
        return load(verified, device="cpu", threads=1)


def flip_a_bit(tensor: torch.Tensor, byte: int = 5, bit: int = 3) -> None:
    tensor.detach().view(-1).view(torch.uint8)[byte] ^= 1 << bit


def test_one_flipped_bit_of_a_weight_is_found_and_named(loaded: LoadedModel) -> None:
    assert loaded.resident.changed() is None
    flip_a_bit(loaded.module.get_parameter(NAME))
    with pytest.raises(ModelStoppedError, match=f"tensor {NAME} changed in memory"):
        loaded.resident.check()
    flip_a_bit(loaded.module.get_parameter(NAME))
    loaded.resident.check()


def test_one_flipped_bit_of_a_computed_buffer_is_found(loaded: LoadedModel) -> None:
    flip_a_bit(loaded.module.model.rotary_emb.inv_freq)
    assert loaded.resident.changed() == "model.rotary_emb.inv_freq"


def test_a_parameter_that_was_replaced_is_found(loaded: LoadedModel) -> None:
    loaded.module.model.norm.weight = torch.nn.Parameter(torch.zeros(32, dtype=torch.bfloat16))
    assert loaded.resident.changed() == "model.norm.weight"


def test_a_tie_that_was_cut_is_found(loaded: LoadedModel) -> None:
    copy = loaded.module.lm_head.weight.detach().clone()
    loaded.module.lm_head.weight = torch.nn.Parameter(copy)
    assert loaded.resident.changed() == "lm_head.weight"


def test_a_parameter_that_was_removed_is_found(loaded: LoadedModel) -> None:
    loaded.module.model.norm.weight = None
    assert loaded.resident.changed() == "model.norm.weight"


def test_the_same_bytes_in_another_dtype_are_found(loaded: LoadedModel) -> None:
    same = loaded.module.model.norm.weight.detach().view(torch.float16)
    loaded.module.model.norm.weight = torch.nn.Parameter(same)
    assert loaded.resident.changed() == "model.norm.weight"


def test_a_module_that_never_matched_does_not_match() -> None:
    module = torch.nn.Linear(4, 4)
    promised = {"weight": bytes(32), "bias": bytes(32)}
    assert ResidentTensors(module, promised).changed() == "weight"


@given(
    shape=st.lists(st.integers(1, 40), max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.uint8, torch.int64]),
)
def test_a_tensor_in_memory_hashes_like_its_bytes_in_a_file(
    shape: list[int], dtype: torch.dtype
) -> None:
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.uint8: "U8", torch.int64: "I64"}
    tensor = torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
    data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
    assert tensor_digest_of(tensor) == tensor_digest(names[dtype], shape, data)


def test_a_large_tensor_hashes_alike_in_spans() -> None:
    tensor = torch.arange(3_000_001, dtype=torch.int32)
    assert tensor_digest_of(tensor) == tensor_digest("I32", (3_000_001,), tensor.numpy().tobytes())


def test_a_view_that_does_not_lie_in_one_piece_hashes_by_its_values() -> None:
    tensor = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    assert tensor_digest_of(tensor.T) == tensor_digest_of(tensor.T.contiguous())


def test_the_resident_digest_is_pinned() -> None:
    parts = b"\x01\x00a" + b"\x11" * 32 + b"\x02\x00bc" + b"\x22" * 32
    expected = hashlib.sha256(b"weightproof/resident@1\0" + parts).digest()
    assert resident_digest({"bc": b"\x22" * 32, "a": b"\x11" * 32}) == expected
