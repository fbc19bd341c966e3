"""The packed copy: laid out as said, made of verified tensors, and watched like them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig, Qwen2Config

from inference.engine.compute_plan import plan
from inference.engine.kernels.unit import has_bf16_unit
from inference.engine.packing import is_packable, pack, packed_bytes
from inference.errors import ModelStoppedError
from inference.loader import LoadedModel, load
from registry.manifest_parts import Serving
from tests.inference import tiny_models
from tests.inference.engine.packed_bench import CONTEXT, module
from tests.inference.shelf import Shelf

PANEL = 64
CPU = torch.device("cpu")
BUFFERS = (
    "packed.qkv",
    "packed.out",
    "packed.gate_up",
    "packed.down",
    "packed.head",
    "packed.biases",
    "packed.norms",
    "packed.cosines",
    "packed.sines",
)
Floats = npt.NDArray[np.float32]


@pytest.fixture
def loaded(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    folder = tiny_models.qwen2(tmp_path / "tiny")
    with shelf.verified(folder, task="chat", serving=Serving("F32", 100, 80)) as verified:
        return load(verified, device="cpu", threads=1)


def flip_a_bit(tensor: torch.Tensor, at: int) -> None:
    tensor.detach().view(-1).view(torch.uint8)[at] ^= 1 << 6


# Refusals


@pytest.mark.parametrize("name", BUFFERS)
def test_one_flipped_bit_of_the_packed_copy_is_found_by_its_name(
    loaded: LoadedModel, name: str
) -> None:
    assert loaded.resident.changed() is None
    buffer = loaded.module.get_buffer(name)
    for at in (0, buffer.nbytes // 2, buffer.nbytes - 1):
        flip_a_bit(buffer, at)
        assert loaded.resident.changed() == name
        with pytest.raises(ModelStoppedError, match=name):
            loaded.resident.check([name])
        flip_a_bit(buffer, at)
    assert loaded.resident.changed() is None


def test_every_tensor_that_the_kernels_read_is_watched(loaded: LoadedModel) -> None:
    packed = {name for name, _ in loaded.module.named_buffers() if name.startswith("packed.")}
    assert packed == set(BUFFERS)
    assert packed <= set(loaded.resident.names)
    assert "model.embed_tokens.weight" in loaded.resident.names


def test_the_widened_embedding_of_half_precision_is_watched_too(
    shelf: Shelf, tmp_path: Path
) -> None:
    folder = tiny_models.llama(tmp_path / "half", dtype=torch.float16)
    with shelf.verified(folder, task="chat", serving=Serving("F16", 100, 80)) as verified:
        loaded = load(verified, device="cpu", threads=1)
    assert loaded.resident.changed() is None
    flip_a_bit(loaded.module.get_buffer("packed.embedding"), 40)
    assert loaded.resident.changed() == "packed.embedding"


def test_a_buffer_of_the_copy_that_is_replaced_or_added_is_found(loaded: LoadedModel) -> None:
    packed = loaded.module.get_submodule("packed")
    good = packed.norms
    packed.norms = torch.nn.Buffer(torch.zeros_like(good), persistent=False)
    assert loaded.resident.changed() == "packed.norms"
    packed.norms = good
    packed.register_buffer("more", torch.zeros(3))
    assert loaded.resident.changed() == "packed.more"


LLAMA = LlamaConfig(hidden_size=64, num_attention_heads=4)


@pytest.mark.parametrize(
    ("config", "dtype", "expected"),
    [
        (LLAMA, torch.float32, True),
        (LLAMA, torch.bfloat16, True),
        (LLAMA, torch.float16, True),
        (LLAMA, torch.float64, False),
        (Qwen2Config(hidden_act="swish"), torch.float32, True),
        (LlamaConfig(hidden_act="gelu"), torch.float32, False),
        (LlamaConfig(attention_bias=True), torch.float32, False),
        (LlamaConfig(mlp_bias=True), torch.float32, False),
        (GPT2Config(), torch.float32, False),
    ],
)
def test_only_what_the_kernels_compute_is_packed(
    config: PreTrainedConfig, dtype: torch.dtype, expected: bool
) -> None:
    assert is_packable(config, dtype, CPU) is expected
    assert not is_packable(config, dtype, torch.device("cuda"))
    how = plan(config, dtype=dtype, device=CPU, context=64)
    assert how.packed is expected
    assert (how.packed_bytes > 0) is expected
    assert not plan(config, dtype=dtype, device=CPU, context=64, adapted=True).packed


@pytest.mark.parametrize(
    ("told", "has"),
    [
        ({"NUMBA_CPU_NAME": "generic"}, False),
        ({"NUMBA_CPU_NAME": "znver4", "NUMBA_CPU_FEATURES": "+avx512f,-avx512bf16"}, False),
        ({"NUMBA_CPU_NAME": "znver4", "NUMBA_CPU_FEATURES": "+avx512f,+avx512bf16"}, True),
    ],
    ids=["generic", "without", "with"],
)
def test_the_bfloat16_unit_is_seen_where_kernels_are_compiled_for_it_and_only_there(
    told: dict[str, str], has: bool
) -> None:
    program = "from inference.engine.kernels.unit import has_bf16_unit; print(has_bf16_unit())"
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **told},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert found.stdout.strip() == str(has)


def test_only_bfloat16_is_paired_and_its_cache_takes_half() -> None:
    for dtype in (torch.float32, torch.float16):
        assert not plan(LLAMA, dtype=dtype, device=CPU, context=64).paired
    single = plan(LLAMA, dtype=torch.bfloat16, device=CPU, context=64, single=True)
    assert (single.packed, single.paired) == (True, False)
    paired = plan(LLAMA, dtype=torch.bfloat16, device=CPU, context=64)
    assert paired.paired is has_bf16_unit()
    assert paired.block_bytes == single.block_bytes // (2 if paired.paired else 1)
    assert paired.packed_bytes == single.packed_bytes


# Layout


@pytest.mark.parametrize(("hidden", "inner"), [(48, 72), (64, 31), (128, 64)])
def test_a_paired_copy_has_two_inputs_of_an_output_beside_one_another(
    hidden: int, inner: int
) -> None:
    model = module("qwen2", dtype=torch.bfloat16, hidden=hidden, inner=inner)
    weights = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    pack(model, CONTEXT, paired=True)
    copy = model.get_submodule("packed")
    depths = {"qkv": hidden, "out": hidden, "gate_up": hidden, "down": inner, "head": hidden}
    expected = expected_copy(weights, layers=2)
    for name, depth in depths.items():
        wide = expected[name].reshape(-1, depth, PANEL)
        pairs = getattr(copy, name).float().numpy().reshape(len(wide), -1, PANEL, 2)
        assert pairs.shape[1] == -(-depth // 2)
        for at in range(depth):
            assert (pairs[:, at // 2, :, at % 2] == wide[:, at]).all(), name
        assert depth % 2 == 0 or not pairs[:, -1, :, 1].any()
        assert getattr(copy, name).data_ptr() % PANEL == 0
    assert copy.norms.tolist() == expected["norms"].tolist()


def panels(matrix: Floats) -> Floats:
    """Lay out (outputs, inputs) number by number, as the words of `PackedWeights` say."""
    outputs, inputs = matrix.shape
    count = -(-outputs // PANEL)
    found = np.zeros((count, inputs, PANEL), dtype=np.float32)
    for output in range(outputs):
        found[output // PANEL, :, output % PANEL] = matrix[output]
    return found


def expected_copy(weights: dict[str, Floats], layers: int) -> dict[str, Floats]:
    def of(layer: int, name: str) -> Floats:
        return weights[f"model.layers.{layer}.{name}"]

    def qkv(layer: int, what: str) -> Floats:
        return np.concatenate([of(layer, f"self_attn.{p}_proj.{what}") for p in "qkv"])

    def gate_up(layer: int) -> Floats:
        gate, up = (panels(of(layer, f"mlp.{name}_proj.weight")) for name in ("gate", "up"))
        return np.stack([part for pair in zip(gate, up, strict=True) for part in pair])

    norms = [
        of(layer, f"{name}_layernorm.weight")
        for layer in range(layers)
        for name in ("input", "post_attention")
    ]
    every = range(layers)
    return {
        "qkv": np.stack([panels(qkv(n, "weight")) for n in every]),
        "out": np.stack([panels(of(n, "self_attn.o_proj.weight")) for n in every]),
        "gate_up": np.stack([gate_up(n) for n in every]),
        "down": np.stack([panels(of(n, "mlp.down_proj.weight")) for n in every]),
        "head": panels(weights["lm_head.weight"]),
        "biases": np.stack([qkv(n, "bias") for n in every]),
        "norms": np.stack([*norms, weights["model.norm.weight"]]),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden", [48, 64, 96])
def test_the_copy_is_laid_out_as_it_is_said(dtype: torch.dtype, hidden: int) -> None:
    model = module("qwen2", dtype=dtype, hidden=hidden)
    weights = {name: tensor.float().numpy() for name, tensor in model.state_dict().items()}
    pack(model, CONTEXT, paired=False)
    packed = model.get_submodule("packed")
    for name, expected in expected_copy(weights, layers=2).items():
        found = getattr(packed, name)
        assert found.float().numpy().reshape(-1).tolist() == expected.reshape(-1).tolist(), name
        wide = name in ("biases", "norms") or dtype == torch.float16
        assert found.dtype == (torch.float32 if wide else dtype)
        assert found.data_ptr() % PANEL == 0, "kernels load whole vectors of weights"
    if dtype == torch.float16:
        assert (packed.embedding == model.model.embed_tokens.weight).all()


@pytest.mark.parametrize("positions", [1, CONTEXT])
def test_rotations_are_those_of_every_position(positions: int) -> None:
    model = module("llama", width=16)
    pack(model, positions, paired=False)
    packed = model.get_submodule("packed")
    speeds = 10_000.0 ** (-np.arange(8) / 8)
    angles = np.arange(positions)[:, None] * speeds
    for name, function in (("cosines", np.cos), ("sines", np.sin)):
        found = getattr(packed, name).numpy().reshape(positions, 8)
        assert np.allclose(found, function(angles), atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_its_size_is_known_beforehand_but_for_what_fills_up_panels(dtype: torch.dtype) -> None:
    model = module("qwen2", dtype=dtype, hidden=64, inner=128, vocabulary=256)
    pack(model, CONTEXT, paired=False)
    packed = model.get_submodule("packed")
    small = ("biases", "norms", "cosines", "sines")
    found = sum(t.nbytes for name, t in packed.named_buffers() if name not in small)
    assert found == packed_bytes(model.config, dtype)
