"""What the loader refuses although the chain vouches for every byte of it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from inference.errors import LoadRefusedError
from inference.loader import LoadedModel, load
from registry.errors import ConfigError
from registry.manifest import ModelManifest, parse_manifest
from registry.manifest_parts import Serving
from registry.signing.canonical import encode
from tests.attacks.forgery import forged_manifest
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.llama(tmp_path / "tiny")


@pytest.fixture
def refused(shelf: Shelf, folder: Path) -> Callable[..., None]:
    """Record the folder as it is now, as registering would not; verify it and try to load it."""

    def attempt(match: str, *, task: str = "chat", serving: Serving | None = None) -> None:
        limits = (serving or Serving("F32", 64, 32)).to_json()
        written = forged_manifest(folder, shelf.blocks, task=task, serving=limits)
        manifest = parse_manifest(encode(written))
        assert isinstance(manifest, ModelManifest)
        with (
            shelf.recorded(manifest, folder=folder) as verified,
            pytest.raises(LoadRefusedError, match=match),
        ):
            load(verified, device="cpu", threads=1)

    return attempt


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


# 1. Kinds of files


def test_a_file_of_a_kind_that_no_loader_needs_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    (folder / "adapter_config.yaml").write_text("base: other\n")
    refused("adapter_config.yaml: is of a kind that is not loaded")


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "vocab.json"])
def test_a_pickle_under_another_name_is_refused(
    folder: Path, refused: Callable[..., None], name: str
) -> None:
    (folder / name).write_bytes(pickle.dumps({"weight": [1.0]}))
    refused(f"{name}: is a pickle")


def test_an_archive_under_another_name_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / "notes.txt")
    refused(r"notes.txt: is a zip archive")


# 2. The configuration


@pytest.mark.parametrize(
    "key", ["auto_map", "custom_pipelines", "quantization_config", "trust_remote_code", "_target_"]
)
def test_a_configuration_that_asks_for_code_is_refused(
    folder: Path, refused: Callable[..., None], key: str
) -> None:
    tiny_models.edit_json(folder / "config.json", **{key: {"AutoModel": "modeling_x.Model"}})
    refused(f"config.json: has the key {key}")


def test_a_nested_key_that_asks_for_code_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    tiny_models.edit_json(folder / "config.json", text_config={"auto_map": {}})
    refused("has the key auto_map")


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["MambaForCausalLM"]},
        {"model_type": "bert"},
        {"some_new_thing": 1},
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": 4000},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": True},
        {"vocab_size": 2**31},
        {"vocab_size": 2**21},
        {"hidden_size": 2**40},
        {"hidden_size": 31},
        {"num_attention_heads": 0},
        {"intermediate_size": "64"},
        {"hidden_act": "__import__('os')"},
        {"rms_norm_eps": 1e300},
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": -1}},
        {"is_decoder": True},
        {"tie_word_embeddings": True},
    ],
    ids=str,
)
def test_a_configuration_out_of_bounds_is_refused(
    folder: Path, refused: Callable[..., None], changes: dict[str, object]
) -> None:
    tiny_models.edit_json(folder / "config.json", **changes)
    refused("config.json|lm_head.weight|model.embed_tokens.weight|model.layers|shape")


def test_a_configuration_with_two_values_for_a_key_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("{", '{"vocab_size": 1,', 1))
    refused("config.json: has a duplicate key")


def test_a_configuration_with_a_number_that_is_none_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text().replace("{", '{"rms_norm_eps": NaN,', 1))
    refused("config.json: has the number NaN")


def test_more_context_than_the_model_has_positions_is_refused(
    refused: Callable[..., None],
) -> None:
    refused("has 128 positions, fewer than the 129", serving=Serving("F32", 129, 32))


def test_a_model_registered_for_another_task_is_refused(refused: Callable[..., None]) -> None:
    refused("is of a model to chat, not to classify", task="classify")


# 3. and 4. Tensors


def test_a_missing_tensor_is_refused(folder: Path, refused: Callable[..., None]) -> None:
    change_tensors(folder, lambda tensors: tensors.pop("model.norm.weight"))
    refused("model.norm.weight: the architecture needs this tensor")


def test_an_extra_tensor_is_refused(folder: Path, refused: Callable[..., None]) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"model.backdoor": torch.ones(2)}))
    refused("model.backdoor: the architecture has no such tensor")


def test_a_tensor_of_another_shape_is_refused(folder: Path, refused: Callable[..., None]) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(33)}))
    refused(r"model.norm.weight: has the shape \[33\], not \[32\]")


def test_a_tensor_of_another_dtype_than_is_served_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    half = torch.ones(32, dtype=torch.bfloat16)
    change_tensors(folder, lambda tensors: tensors.update({"model.norm.weight": half}))
    refused("model.norm.weight: is BF16, to be served in F32")


def test_a_serving_dtype_that_would_need_a_cast_is_refused(refused: Callable[..., None]) -> None:
    refused("is F32, to be served in BF16", serving=Serving("BF16", 64, 32))


def test_a_serving_dtype_that_nothing_computes_in_is_refused(refused: Callable[..., None]) -> None:
    refused("cannot be served in I8", serving=Serving("I8", 64, 32))


def test_a_tied_tensor_that_is_stored_twice_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.llama(tmp_path / "tied", tied=True)
    twice = {"lm_head.weight": torch.zeros(tiny_models.VOCABULARY, 32)}
    change_tensors(folder, lambda tensors: tensors.update(twice))
    with (
        shelf.verified(folder, task="chat") as verified,
        pytest.raises(LoadRefusedError, match=r"lm_head.weight: the architecture has no such"),
    ):
        load(verified, device="cpu", threads=1)


def test_an_index_that_sends_readers_elsewhere_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    index = {"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused("maps tensors to other files")


# 8. Texts


def test_a_model_without_a_tokenizer_is_refused(folder: Path, refused: Callable[..., None]) -> None:
    (folder / "tokenizer.json").unlink()
    refused("tokenizer.json: is missing")


def test_a_tokenizer_that_cannot_be_read_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    refused("tokenizer.json: has no model")


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    value = json.loads((folder / "tokenizer.json").read_text())
    value["added_tokens"].append(
        {**value["added_tokens"][0], "id": tiny_models.VOCABULARY, "content": "<|surplus|>"}
    )
    (folder / "tokenizer.json").write_text(json.dumps(value))
    refused("its highest token id is 260, the model has 260")


def test_a_chat_model_without_a_template_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    (folder / "chat_template.jinja").unlink()
    refused("chat_template.jinja: is missing")


@pytest.mark.parametrize("template", [tiny_models.TEMPLATE, "{{ messages[0].content }}"])
def test_two_templates_are_refused_even_where_they_are_the_same(
    folder: Path, refused: Callable[..., None], template: str
) -> None:
    tiny_models.edit_json(folder / "tokenizer_config.json", chat_template=template)
    refused("tokenizer_config.json: has a chat template, and so has chat_template.jinja")


def test_a_template_that_renders_unlike_at_registration_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    (folder / "chat_template.jinja").write_text("Obey. " + tiny_models.TEMPLATE)
    refused("chat_template.jinja: golden conversation 0 is rendered unlike at registration")


def test_a_choice_of_templates_is_refused(folder: Path, refused: Callable[..., None]) -> None:
    choice = [{"name": "default", "template": "x"}, {"name": "tools", "template": "y"}]
    tiny_models.edit_json(folder / "tokenizer_config.json", chat_template=choice)
    refused("has several chat templates")


def test_an_end_token_outside_the_vocabulary_is_refused(
    folder: Path, refused: Callable[..., None]
) -> None:
    tiny_models.edit_json(folder / "generation_config.json", eos_token_id=[256, 4096])
    refused("generation_config.json: eos_token_id is 4096, which is no token")


# The doors


def test_a_loaded_model_cannot_be_made_by_hand() -> None:
    fields = {name: None for name in LoadedModel.__dataclass_fields__ if name != "proof"}
    with pytest.raises(TypeError, match="comes from load"):
        LoadedModel(**fields)


def test_a_device_that_is_not_there_is_refused(shelf: Shelf, folder: Path) -> None:
    with shelf.verified(folder, task="chat") as verified:
        for device in ("tpu", "cuda:x", "cuda:97"):
            with pytest.raises(ConfigError, match="device"):
                load(verified, device=device)
