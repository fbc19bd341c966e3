"""LoRA adapters: what the official peft computes, on a base whose weights stay as registered."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from inference.errors import LoadRefusedError, ModelStoppedError
from inference.loader import LoadedModel, load
from registry.errors import FileRefusedError, ManifestError
from registry.manifest import Parent
from registry.record import Kind
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
IDS = torch.tensor([[1, 5, 9, 200, 31, 7]])
WEIGHTS = "adapter_model.safetensors"
CASES: list[tuple[Callable[..., Path], str, type, dict[str, Any]]] = [
    (tiny_models.llama, "chat", AutoModelForCausalLM, {"target_modules": ["q_proj", "down_proj"]}),
    (tiny_models.qwen2, "chat", AutoModelForCausalLM, {"target_modules": ["k_proj", "up_proj"]}),
    (
        tiny_models.gpt2,
        "chat",
        AutoModelForCausalLM,
        {"target_modules": ["c_attn"], "fan_in_fan_out": True},
    ),
    (
        tiny_models.bert_classifier,
        "classify",
        AutoModelForSequenceClassification,
        {"target_modules": ["query", "value"], "use_rslora": True},
    ),
]


def adapter(folder: Path, base: Path, kind: type, task: str, **options: Any) -> Path:
    """Save an adapter with random matrices, by peft itself."""
    torch.manual_seed(5)
    of = TaskType.CAUSAL_LM if task == "chat" else TaskType.SEQ_CLS
    config = LoraConfig(task_type=of, r=4, lora_alpha=12, **options)
    model = get_peft_model(kind.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.2)
    model.save_pretrained(folder)
    return folder


def pair(folder: Path) -> tuple[Path, Path]:
    """Return a base and an adapter of it."""
    base = tiny_models.llama(folder / "base")
    options = {"target_modules": ["q_proj"]}
    return base, adapter(folder / "adapter", base, AutoModelForCausalLM, "chat", **options)


def loaded(shelf: Shelf, base: Path, folder: Path, task: str) -> tuple[LoadedModel, LoadedModel]:
    with shelf.verified(base, task=task) as below:
        plain = load(below, device="cpu", threads=1)
        parent = Parent(Kind.MODEL, below.model_id)
    with shelf.verified(folder, task=task, parents=(parent,)) as verified:
        assert verified.base is not None
        assert verified.base.model_id == parent.id
        return plain, load(verified, device="cpu", threads=1)


@pytest.mark.parametrize(
    ("make", "task", "kind", "options"), CASES, ids=lambda v: getattr(v, "__name__", "")
)
def test_an_adapter_computes_what_peft_computes(
    shelf: Shelf,
    tmp_path: Path,
    make: Callable[..., Path],
    task: str,
    kind: type,
    options: dict[str, Any],
) -> None:
    base = make(tmp_path / "base")
    folder = adapter(tmp_path / "adapter", base, kind, task, **options)
    plain, changed = loaded(shelf, base, folder, task)
    expected = PeftModel.from_pretrained(kind.from_pretrained(base), folder).eval()
    with torch.inference_mode():
        found = changed.module(IDS).logits
        assert torch.equal(found, expected(input_ids=IDS).logits)
        assert not torch.allclose(found, plain.module(IDS).logits, atol=1e-3)


def test_an_adapter_that_adds_nothing_changes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    base, folder = pair(tmp_path)
    tensors = {
        name: tensor.zero_() if "lora_B" in name else tensor
        for name, tensor in load_file(folder / WEIGHTS).items()
    }
    save_file(tensors, folder / WEIGHTS)
    plain, same = loaded(shelf, base, folder, "chat")
    with torch.inference_mode():
        assert torch.equal(same.module(IDS).logits, plain.module(IDS).logits)
    assert same.model_id != plain.model_id
    assert same.resident.digest != plain.resident.digest


def test_tensors_of_base_and_adapter_are_watched_alike(shelf: Shelf, tmp_path: Path) -> None:
    base, folder = pair(tmp_path)
    plain, model = loaded(shelf, base, folder, "chat")
    # The base alone computes from a packed copy, which is watched too.
    copies = {name for name in plain.resident.names if name.startswith("packed.")}
    assert copies
    assert set(plain.resident.names) - copies < set(model.resident.names)
    module = "model.layers.1.self_attn.q_proj"
    for name in (f"{module}.weight", f"{module}.lora_A.weight", f"{module}.lora_B.weight"):
        flat = model.module.get_parameter(name).detach().view(-1).view(torch.uint8)
        flat[2] ^= 1
        with pytest.raises(ModelStoppedError, match=f"tensor {name} changed"):
            model.resident.check()
        flat[2] ^= 1
    model.resident.check()


def test_a_flipped_bit_of_an_adapter_is_refused_by_file_and_tensor(
    shelf: Shelf, tmp_path: Path
) -> None:
    base, folder = pair(tmp_path)
    with shelf.verified(base, task="chat") as below:
        parent = Parent(Kind.MODEL, below.model_id)
    with shelf.verified(folder, task="chat", parents=(parent,)) as verified:
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[-1] ^= 1
        (folder / WEIGHTS).write_bytes(data)
        with pytest.raises(LoadRefusedError, match=f"{WEIGHTS}: tensor .*lora_.* does not hash"):
            load(verified, device="cpu", threads=1)


def test_a_flipped_bit_of_its_base_is_refused_by_file_and_tensor(
    shelf: Shelf, tmp_path: Path
) -> None:
    base, folder = pair(tmp_path)
    with shelf.verified(base, task="chat") as below:
        parents = (Parent(Kind.MODEL, below.model_id),)
    path = base / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with (
        shelf.verified(folder, task="chat", parents=parents, base_folder=base) as verified,
        pytest.raises(LoadRefusedError, match=r"model\.safetensors: tensor .* does not hash"),
    ):
        load(verified, device="cpu", threads=1)
    # From its blocks it is whole.
    with shelf.verified(folder, task="chat", parents=parents) as verified:
        load(verified, device="cpu", threads=1).resident.check()


def test_a_base_whose_file_says_another_shape_than_its_manifest_is_refused(
    shelf: Shelf, tmp_path: Path
) -> None:
    """As many numbers, and the digest of what lies in the file: only the shape is a lie."""
    base, folder = pair(tmp_path)
    tensors, norm = load_file(base / "model.safetensors"), "model.norm.weight"
    tensors[norm] = tensors[norm].view(8, 4)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with shelf.verified(base, task="chat") as turned:
        manifest = turned.manifest
    entries = (
        replace(entry, shape=(32,)) if entry.name == norm else entry for entry in manifest.tensors
    )
    with shelf.recorded(replace(manifest, tensors=tuple(entries)), folder=base) as forged:
        parents = (Parent(Kind.MODEL, forged.model_id),)
    with (
        shelf.verified(folder, task="chat", parents=parents) as verified,
        pytest.raises(LoadRefusedError, match=rf"model\.safetensors: tensor {norm} is not as"),
    ):
        load(verified, device="cpu", threads=1)


def test_an_adapter_of_every_linear_module_in_half_precision_computes_what_peft_computes(
    shelf: Shelf, tmp_path: Path
) -> None:
    """peft writes the names of `all-linear` out, and trains in single precision beside half."""
    base = tiny_models.llama(tmp_path / "base", dtype=torch.bfloat16)
    folder = adapter(
        tmp_path / "adapter", base, AutoModelForCausalLM, "chat", target_modules="all-linear"
    )
    named = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    assert "model.layers.1.mlp.gate_proj" in named
    with pytest.raises(FileRefusedError, match="is F32, to be served in BF16"):
        loaded(shelf, base, folder, "chat")
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS)
    _, changed = loaded(shelf, base, folder, "chat")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    expected = PeftModel.from_pretrained(plain, folder, autocast_adapter_dtype=False).eval()
    assert {parameter.dtype for parameter in changed.module.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        assert torch.equal(changed.module(IDS).logits, expected(input_ids=IDS).logits)


def test_what_is_no_sound_adapter_is_refused_at_registration(shelf: Shelf, tmp_path: Path) -> None:
    base = tiny_models.llama(tmp_path / "base")
    other = tiny_models.gpt2(tmp_path / "other")
    folder = adapter(
        tmp_path / "adapter", base, AutoModelForCausalLM, "chat", target_modules=["q_proj"]
    )
    with shelf.verified(base, task="chat") as below, shelf.verified(other, task="chat") as wrong:
        right, left = (Parent(Kind.MODEL, v.model_id) for v in (below, wrong))
    with pytest.raises(ManifestError, match="has one base, this one names 0"):
        shelf.verified(folder, task="chat")
    with pytest.raises(ManifestError, match="has one base, this one names 2"):
        shelf.verified(folder, task="chat", parents=(right, left))
    with pytest.raises(FileRefusedError, match=r"adapter_config.json: fan_in_fan_out"):
        shelf.verified(folder, task="chat", parents=(left,))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(FileRefusedError, match=r"tokenizer.json: is not a file of an adapter"):
        shelf.verified(folder, task="chat", parents=(right,))
