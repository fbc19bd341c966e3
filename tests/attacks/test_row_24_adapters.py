"""Row 24: adapters: for another base, of another rank, or changing what they must not.

An adapter is a record whose one parent of kind model is its base: the chain says what it is for.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.errors import TransactionFailedError
from registry.record import Kind
from tests.attacks.hall import SERVING, Case, Hall
from tests.attacks.hostile_adapters import (
    BOMBS,
    OTHER_COMPUTATIONS,
    RANK,
    SETS,
    TARGETS,
    TARGETS_OUTSIDE,
    A,
    Tensors,
    lora,
)
from tests.attacks.safetensors_bytes import joined, taken_apart, written
from tests.inference import tiny_models
from tests.inference.tiny_models import edit_json

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A sound adapter of the good model, as peft saves it."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / CONFIG).write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": "somebody/some-model",
                "r": RANK,
                "lora_alpha": 8,
                "lora_dropout": 0.0,
                "target_modules": ["q_proj", "v_proj"],
                "bias": "none",
                "fan_in_fan_out": False,
                "inference_mode": True,
            }
        )
    )
    tensors: Tensors = {}
    for target, (inputs, outputs) in TARGETS.items():
        tensors |= lora(target, inputs, outputs)
    save_file(tensors, folder / WEIGHTS)
    return folder


def parent(*ids: bytes, kind: str = "model") -> list[dict[str, str]]:
    return [{"kind": kind, "id": "0x" + id.hex()} for id in ids]


def forged(hall: Hall, folder: Path, **changes: Any) -> Case:
    """Record the adapter by hand, for the good model unless `changes` say otherwise."""
    made = {"architecture": "LoraAdapter", "parents": parent(hall.good.id)} | changes
    return hall.forge(folder, **made)


def changed(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_a_sound_adapter_is_no_attack(hall: Hall, adapter: Path) -> None:
    case = forged(hall, adapter)
    hall.accepts(case)
    ids = torch.arange(16)[None]
    with hall.loaded(hall.good) as base:
        plain = base.module(ids).logits
    with hall.loaded(case) as model:
        assert not torch.equal(model.module(ids).logits, plain)


# The base


def test_an_adapter_without_a_base_is_refused(hall: Hall, adapter: Path) -> None:
    hall.refuses(forged(hall, adapter, parents=[]), "has one base, this one names 0 models")


def test_an_adapter_of_two_bases_is_refused(hall: Hall, adapter: Path, folder: Path) -> None:
    edit_json(folder / "config.json", _name_or_path="the other base")
    both = sorted([hall.good.id, hall.register(folder).id])
    hall.refuses(forged(hall, adapter, parents=parent(*both)), "this one names 2 models")


def test_an_adapter_of_itself_cannot_be_recorded(hall: Hall, adapter: Path) -> None:
    """Its id is a digest of a manifest that would have to hold the id."""
    case = forged(hall, adapter, parents=parent(hall.good.id))
    again = forged(hall, adapter, parents=parent(case.id), name="again")
    hall.refuses(again, "is an adapter itself")


def test_an_adapter_whose_base_differs_between_chain_and_manifest_is_refused(
    hall: Hall, adapter: Path, folder: Path
) -> None:
    edit_json(folder / "config.json", _name_or_path="recorded base")
    other = hall.register(folder)
    case = forged(hall, adapter, recorded_parents=[other.id], name="for another base")
    hall.refuses(case, "the manifest and the chain name different parents")


def test_an_adapter_whose_base_is_no_model_is_refused(hall: Hall, adapter: Path) -> None:
    """The contract lets no model descend from a dataset, so the chain is told something else."""
    dataset = hall.publish({"format": "weightproof/dataset@1", "name": "x"}, kind=Kind.DATASET)
    with pytest.raises(TransactionFailedError, match="ParentKindNotAllowed"):
        forged(hall, adapter, parents=parent(dataset))
    case = forged(hall, adapter, parents=parent(dataset), recorded_parents=[hall.good.id])
    hall.refuses(case, "the manifest and the chain name different parents")


def test_an_adapter_of_a_base_that_was_never_loaded_well_is_refused(
    hall: Hall, adapter: Path, folder: Path
) -> None:
    """The base is verified as if it were asked for itself: here its configuration is a bomb."""
    edit_json(folder / "config.json", auto_map={"AutoModel": "modeling_x.Model"})
    base = hall.forge(folder)
    hall.refuses(forged(hall, adapter, parents=parent(base.id)), "has the key auto_map")


def test_an_adapter_of_a_base_that_is_gone_is_refused(
    hall: Hall, adapter: Path, folder: Path
) -> None:
    edit_json(folder / "config.json", _name_or_path="lost base")
    base = json.loads(hall.manifest_of(hall.register(folder)))
    # The same base with a file that nobody has: its chunk was never stored.
    base["files"] = [
        file | ({"cid": hall.cid_of(b"nobody has this")} if file["path"] == "config.json" else {})
        for file in base["files"]
    ]
    base["root"] = hall.root_of(base["files"])
    id = hall.publish(base)
    hall.refuses(forged(hall, adapter, parents=parent(id)), "config.json|bafk|nobody|not in")


def test_an_adapter_of_a_revoked_base_is_refused(hall: Hall, adapter: Path, folder: Path) -> None:
    edit_json(folder / "config.json", _name_or_path="revoked base")
    base = hall.register(folder)
    case = forged(hall, adapter, parents=parent(base.id))
    hall.workspace.records.revoke(hall.workspace.signer("publisher"), base.id, "poisoned")
    hall.refuses(case, "tainted by model|was revoked")


def test_an_adapter_for_a_base_of_other_shapes_is_refused(
    hall: Hall, adapter: Path, tmp_path: Path
) -> None:
    base = hall.register(tiny_models.llama(tmp_path / "wide", hidden=64))
    case = forged(hall, adapter, parents=parent(base.id))
    hall.refuses(case, r"has the shape \[4, 32\], not \[4, 64\]", path=WEIGHTS)


def test_an_adapter_for_a_base_of_another_architecture_is_refused(
    hall: Hall, adapter: Path, tmp_path: Path
) -> None:
    base = hall.register(tiny_models.gpt2(tmp_path / "gpt2"))
    hall.refuses(forged(hall, adapter, parents=parent(base.id)), "which no adapter of a GPT2|GPT2")


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "classify", "serving": SERVING.to_json() | {"max_output": 0}},
        {"serving": SERVING.to_json() | {"dtype": "BF16"}},
        {"serving": SERVING.to_json() | {"max_context": 65}},
    ],
    ids=["another task", "another dtype", "more context"],
)
def test_an_adapter_that_promises_what_its_base_does_not_is_refused(
    hall: Hall, adapter: Path, changes: dict[str, Any]
) -> None:
    hall.refuses(forged(hall, adapter, **changes), "its base|base's")


# The configuration


@pytest.mark.parametrize("change", BOMBS, ids=lambda change: json.dumps(change)[:50])
def test_a_bomb_in_an_adapter_is_refused(hall: Hall, adapter: Path, change: dict[str, Any]) -> None:
    edit_json(adapter / CONFIG, **change)
    hall.refuses(forged(hall, adapter), f"{next(iter(change))} |r is|shape", growth_mb=64)


@pytest.mark.parametrize("rank", [17, 33, 256])
def test_a_rank_above_a_side_of_its_target_is_refused_though_the_tensors_agree(
    hall: Hall, adapter: Path, rank: int
) -> None:
    edit_json(adapter / CONFIG, r=rank)
    tensors: Tensors = {}
    for target, (inputs, outputs) in TARGETS.items():
        tensors |= lora(target, inputs, outputs, rank)
    save_file(tensors, adapter / WEIGHTS)
    hall.refuses(forged(hall, adapter), f"r is {rank}, more than a side", path=CONFIG)


@pytest.mark.parametrize("targets", TARGETS_OUTSIDE, ids=repr)
def test_a_target_outside_the_list_is_refused(hall: Hall, adapter: Path, targets: Any) -> None:
    edit_json(adapter / CONFIG, target_modules=targets)
    hall.refuses(forged(hall, adapter), "target_modules", path=CONFIG, seconds=5)


@pytest.mark.parametrize("change", OTHER_COMPUTATIONS, ids=lambda change: json.dumps(change)[:50])
def test_another_computation_than_plain_lora_is_refused(
    hall: Hall, adapter: Path, change: dict[str, Any]
) -> None:
    path = adapter / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    hall.refuses(forged(hall, adapter), next(iter(change)), path=CONFIG)


@pytest.mark.parametrize(
    "text",
    ['{"r": 4, "r": 8}', '{"lora_alpha": NaN}', '{"lora_alpha": 1e999}', "[]", "", "{" * 10**5],
    ids=lambda text: text[:20],
)
def test_a_configuration_that_could_be_read_in_two_ways_is_refused(
    hall: Hall, adapter: Path, text: str
) -> None:
    (adapter / CONFIG).write_text(text)
    hall.refuses(forged(hall, adapter), "has |is not", path=CONFIG)


def test_the_base_that_a_configuration_names_is_not_believed(hall: Hall, adapter: Path) -> None:
    for name in ("evil/model", "../../etc", "https://evil.example/model", "0x" + "11" * 32):
        edit_json(adapter / CONFIG, base_model_name_or_path=name, revision="main")
        with hall.verified(forged(hall, adapter)) as verified:
            assert verified.base is not None
            assert verified.base.model_id == hall.good.id


# The tensors


@pytest.mark.parametrize("what", SETS)
def test_tensors_that_are_not_the_adapters_are_refused(
    hall: Hall, adapter: Path, what: str
) -> None:
    changed(adapter, SETS[what])
    rule = r"has no tensor|nothing calls for|has the shape|to be served in|NaN|denormal"
    hall.refuses(forged(hall, adapter), rule, path=WEIGHTS)


def test_a_tensor_twice_in_an_adapter_is_refused(hall: Hall, adapter: Path) -> None:
    parts = taken_apart(adapter / WEIGHTS)
    again = b'{"' + A.encode() + b'":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
    (adapter / WEIGHTS).write_bytes(joined(again + written(parts.header)[1:], parts.body))
    hall.refuses(forged(hall, adapter), "its header has a duplicate key", path=WEIGHTS)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "chat_template.jinja",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "notes.yaml",
        "other/adapter_config.json",
    ],
)
def test_a_file_of_its_own_in_an_adapter_is_refused(
    hall: Hall, adapter: Path, folder: Path, name: str
) -> None:
    (adapter / name).parent.mkdir(exist_ok=True)
    source = folder / name
    (adapter / name).write_bytes(source.read_bytes() if source.exists() else b"{}")
    case = forged(hall, adapter)
    hall.refuses(case, "is not a file of an adapter|is of a kind", path=name)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter.py", "training_args.bin"])
def test_a_file_that_can_run_code_in_an_adapter_is_refused(
    hall: Hall, adapter: Path, name: str
) -> None:
    (adapter / name).write_bytes(pickle.dumps({}))
    hall.refuses(forged(hall, adapter), "can run code", path=name)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_an_adapter_without_one_of_its_files_is_refused(
    hall: Hall, adapter: Path, name: str
) -> None:
    if name == WEIGHTS:
        (adapter / WEIGHTS).rename(adapter / "model.safetensors")
    else:
        (adapter / name).unlink()
    hall.refuses(forged(hall, adapter), "is missing", path=name)


def test_an_adapter_in_the_folder_of_a_whole_model_is_refused(
    hall: Hall, adapter: Path, folder: Path
) -> None:
    """Loaders of transformers pick up an adapter_config.json that lies beside a model."""
    (folder / CONFIG).write_bytes((adapter / CONFIG).read_bytes())
    hall.refuses(hall.forge(folder), "is of a kind that is not loaded|is not a file", path=CONFIG)
