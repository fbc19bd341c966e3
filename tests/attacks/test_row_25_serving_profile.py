"""Row 25: the right weights in another precision or layout than the one that was registered.

What a model is served in stands in its manifest, and the receipt of each call repeats it: the
dtype, the digest of the tensors that computed, and of the manifest itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.hashing.resident_digest import resident_digest
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.manifest import ModelManifest, Serving, parse_manifest
from tests.attacks.hall import GOOD, SERVING, Hall
from tests.attacks.safetensors_bytes import WEIGHTS
from tests.inference import tiny_models
from tests.inference.tiny_models import edit_json

HELD = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


@pytest.mark.parametrize("dtype", sorted(set(DTYPE_BYTES) - {"F32"}))
def test_a_profile_of_another_dtype_than_the_tensors_is_refused(
    hall: Hall, folder: Path, dtype: str
) -> None:
    case = hall.forge(folder, serving=Serving(dtype, 64, 32).to_json())
    hall.refuses(case, f"is F32, to be served in {dtype}|cannot be served in {dtype}")


@pytest.mark.parametrize(
    "dtype", ["F31", "float32", "f32", "", "INT4", "auto", 32, None, ["F32"]], ids=repr
)
def test_a_profile_of_no_dtype_is_refused(hall: Hall, folder: Path, dtype: object) -> None:
    serving = {"dtype": dtype, "max_context": 64, "max_output": 32}
    case = hall.forge(folder, serving=serving)
    hall.refuses(case, r"step 2.*(is not a dtype|serving.dtype|neither|not.*text)")


@pytest.mark.parametrize("held", HELD, ids=HELD.values())
@pytest.mark.parametrize("said", HELD.values())
def test_what_is_held_is_served_and_nothing_is_cast(
    hall: Hall, tmp_path: Path, held: torch.dtype, said: str
) -> None:
    folder = tiny_models.llama(tmp_path / "model", dtype=held)
    case = hall.forge(folder, serving=Serving(said, 64, 32).to_json())
    if HELD[held] != said:
        hall.refuses(case, f"is {HELD[held]}, to be served in {said}")
        return
    with hall.loaded(case) as model:
        assert {parameter.dtype for parameter in model.module.parameters()} == {held}
        assert model.dtype == said


def test_one_tensor_of_another_precision_is_refused(hall: Hall, folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.bfloat16)
    save_file(tensors, folder / WEIGHTS)
    refusal = hall.refuses(hall.forge(folder), "is BF16, to be served in F32")
    assert "model.norm.weight" in refusal.text


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["bfloat16", "float16", "int8", "auto", "evil"])
def test_a_configuration_cannot_change_the_precision(
    hall: Hall, folder: Path, key: str, value: str
) -> None:
    """Other loaders cast by this field; here the manifest decides, and the tensors agree."""
    edit_json(folder / "config.json", dtype=None, torch_dtype=None)
    edit_json(folder / "config.json", **{key: value})
    with hall.loaded(hall.forge(folder)) as model:
        assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
        assert model.dtype == "F32"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantization_config", {"load_in_8bit": True}),
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("load_in_8bit", True),
        ("load_in_4bit", True),
        ("bits", 4),
        ("tp_plan", "auto"),
        ("base_model_tp_plan", {"layers.*.mlp.up_proj": "colwise"}),
        ("base_model_pp_plan", {"layers": [["hidden_states"], ["hidden_states"]]}),
        ("tensor_parallel_size", 8),
        ("distributed_config", {"enable_expert_parallel": True}),
        ("device_map", "auto"),
        ("use_bfloat16", True),
        ("torchscript", True),
        ("attn_implementation", "eager"),
        ("_attn_implementation", "flash_attention_2"),
    ],
    ids=str,
)
def test_a_configuration_that_asks_for_another_layout_is_refused(
    hall: Hall, folder: Path, key: str, value: object
) -> None:
    edit_json(folder / "config.json", **{key: value})
    hall.refuses(hall.forge(folder), f"{key}", path="config.json")


@pytest.mark.parametrize("parts", [1, 2, 8])
def test_slices_that_a_configuration_asks_for_are_not_made(
    hall: Hall, folder: Path, parts: int
) -> None:
    """`pretraining_tp` had older loaders multiply in slices, with other roundings."""
    ids = torch.arange(32)[None]
    with hall.loaded(hall.good) as model:
        expected = model.module(ids).logits
    edit_json(folder / "config.json", pretraining_tp=parts)
    with hall.loaded(hall.forge(folder)) as model:
        assert torch.equal(model.module(ids).logits, expected)


def test_weights_cut_for_several_devices_are_refused(hall: Hall, folder: Path) -> None:
    """Each half of a matrix under the name of the whole, as tensor-parallel savers write them."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    for rank in (0, 1):
        part = {
            f"{name}" if rank == 0 else f"rank1.{name}": tensor.chunk(2)[rank].clone()
            for name, tensor in tensors.items()
        }
        save_file(part, folder / f"model-rank-{rank}.safetensors")
    hall.refuses(hall.forge(folder), "has the shape|has no such tensor")


@pytest.mark.parametrize("more", [{"precision": "fp8"}, {"tensor_parallel": 8}], ids=str)
def test_a_profile_with_a_field_that_is_not_known_is_refused(
    hall: Hall, folder: Path, more: dict[str, object]
) -> None:
    case = hall.forge(folder, serving=SERVING.to_json() | more)
    hall.refuses(case, rf"step 2.*{next(iter(more))}")


def test_the_receipt_says_what_the_model_was_served_in(hall: Hall, folder: Path) -> None:
    """Anybody can hold it against the manifest that the chain records."""
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()), indent=1))
    case = hall.register(folder)
    with hall.on_sale(case, "profiled"):
        receipt = hall.pay(model="profiled").signed.receipt
    manifest = parse_manifest(hall.manifest_of(case))
    assert isinstance(manifest, ModelManifest)
    assert receipt.runtime.dtype == manifest.serving.dtype == "F32"
    assert receipt.runtime.device == "cpu"
    assert receipt.runtime.threads == 1
    assert receipt.runtime.engine == "weightproof/packed exact"
    assert receipt.model.model_id == case.id
    assert receipt.model.manifest_digest == manifest.digest
    tensors = {entry.name: entry.digest for entry in manifest.tensors}
    assert receipt.model.resident_digest == resident_digest(tensors)
    assert receipt.tokens.output <= manifest.serving.max_output


def test_more_than_the_profile_allows_is_not_sold(hall: Hall) -> None:
    """The good model's profile is 64 tokens, 32 of them for the answer."""
    body = {"model": GOOD, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 33}
    with hall.http() as client:
        assert client.post("/v1/chat/completions", json=body).status_code == 400
    assert hall.ask(GOOD, "x" * 100).status_code == 400
