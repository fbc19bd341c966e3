"""Row 18: weights that are not what the architecture computes with, and indexes that lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.manifest import Serving
from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Hall
from tests.attacks.safetensors_bytes import WEIGHTS
from tests.inference import tiny_models
from tests.inference.tiny_models import VOCABULARY, edit_json

Tensors = dict[str, torch.Tensor]
INDEX = "model.safetensors.index.json"
UP = "model.layers.0.mlp.up_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
KEYS = "model.layers.0.self_attn.k_proj.weight"
NORM = "model.norm.weight"


def changed(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_every_missing_tensor_is_refused(hall: Hall, folder: Path) -> None:
    names = sorted(load_file(folder / WEIGHTS))
    assert len(names) == 21
    for name in names:
        changed(folder, lambda tensors: tensors.pop(name))  # noqa: B023
        refusal = hall.refuses_here(hall.forge(folder), "the architecture needs this tensor")
        assert refusal.path == name or name in refusal.text
        (folder / WEIGHTS).write_bytes((hall.folder / WEIGHTS).read_bytes())


@pytest.mark.parametrize(
    "name",
    [
        "model.backdoor",
        "model.layers.2.mlp.up_proj.weight",
        "model.layers.00.mlp.up_proj.weight",
        "model.layers.0.mlp.up_proj.bias",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        "model.rotary_emb.original_inv_freq",
        "model.layers.0.mlp.up_proj.weight_scale",
        "model.layers.0.mlp.up_proj.lora_A.weight",
        "base_model.model.model.norm.weight",
        "Model.norm.weight",
        "model.norm.weight.",
        "training",
        "__class__",
        "model.layers.0.forward",
        "config.vocab_size",
    ],
)
def test_an_extra_tensor_is_refused(hall: Hall, folder: Path, name: str) -> None:
    changed(folder, lambda tensors: tensors.update({name: torch.ones(16)}))
    refusal = hall.refuses(hall.forge(folder), "the architecture has no such tensor")
    assert name in refusal.text


def test_an_extra_tensor_that_the_manifest_hides_is_refused(hall: Hall, folder: Path) -> None:
    tensors = honest_tensors(folder)
    changed(folder, lambda held: held.update({"model.backdoor": torch.ones(16)}))
    hall.refuses(hall.forge(folder, tensors=tensors), "model.backdoor is not as the", path=WEIGHTS)


def test_a_tensor_that_only_the_manifest_has_is_refused(hall: Hall, folder: Path) -> None:
    tensors = honest_tensors(folder)
    changed(folder, lambda held: held.pop(NORM))
    (folder / "pad.safetensors").write_bytes(b"")
    (folder / "pad.safetensors").unlink()
    # Another tensor grows, so that what is listed would still fit into the file.
    changed(folder, lambda held: held.update({"model.pad": torch.ones(64)}))
    hall.refuses(hall.forge(folder, tensors=tensors), "is not as the manifest lists", path=WEIGHTS)


SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "one element more": (NORM, (33,)),
    "one element less": (NORM, (31,)),
    "a dimension more": (NORM, (1, 32)),
    "a dimension less": (UP, (64 * 32,)),
    "no dimension": (NORM, ()),
    "turned": (UP, (32, 64)),
    "other factors": (UP, (128, 16)),
    "more heads": (KEYS, (32, 32)),
    "more words": ("model.embed_tokens.weight", (VOCABULARY + 1, 32)),
    "fewer words": ("lm_head.weight", (VOCABULARY - 1, 32)),
}


@pytest.mark.parametrize("case", SHAPES)
def test_another_shape_is_refused(hall: Hall, folder: Path, case: str) -> None:
    name, shape = SHAPES[case]
    changed(folder, lambda tensors: tensors.update({name: torch.ones(shape)}))
    refusal = hall.refuses(hall.forge(folder), r"has the shape \[.*\], not \[")
    assert name in refusal.text


@pytest.mark.parametrize("case", ["turned", "other factors"])
def test_another_shape_of_the_same_bytes_is_refused(hall: Hall, folder: Path, case: str) -> None:
    """The manifest lists the shape that the architecture wants; the file says another."""
    name, shape = SHAPES[case]
    tensors = honest_tensors(folder)
    changed(folder, lambda held: held.update({name: held[name].reshape(shape).clone()}))
    refusal = hall.refuses(hall.forge(folder, tensors=tensors), "not as the manifest", path=WEIGHTS)
    assert name in refusal.text


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bfloat16,
        torch.float16,
        torch.float64,
        torch.int32,
        torch.uint8,
        torch.int64,
        torch.bool,
        torch.float8_e4m3fn,
        torch.complex64,
    ],
    ids=str,
)
def test_another_dtype_is_refused(hall: Hall, folder: Path, dtype: torch.dtype) -> None:
    changed(folder, lambda tensors: tensors.update({UP: torch.ones(64, 32).to(dtype)}))
    refusal = hall.refuses(hall.forge(folder), "to be served in F32|dtype|cannot be")
    assert UP in refusal.text


def test_another_dtype_of_the_same_bytes_is_refused(hall: Hall, folder: Path) -> None:
    tensors = honest_tensors(folder)
    changed(folder, lambda held: held.update({UP: held[UP].view(torch.int32)}))
    refusal = hall.refuses(hall.forge(folder, tensors=tensors), "not as the manifest", path=WEIGHTS)
    assert UP in refusal.text


def test_two_tensors_whose_names_are_exchanged_are_refused(hall: Hall, folder: Path) -> None:
    """Same shapes, same bytes in sum; only the digests of the manifest tell."""
    other = KEYS.replace("k_proj", "v_proj")
    tensors = honest_tensors(folder)
    changed(folder, lambda held: held.update({KEYS: held[other], other: held[KEYS]}))
    refusal = hall.refuses(hall.forge(folder, tensors=tensors), "does not hash", path=WEIGHTS)
    assert KEYS in refusal.text or other in refusal.text


def test_a_digest_of_another_shape_is_refused(hall: Hall, folder: Path) -> None:
    """A digest binds dtype and shape, so that equal bytes are not equal tensors."""
    tensors = honest_tensors(folder)
    digests = {tensor["name"]: tensor["digest"] for tensor in tensors}
    for tensor in tensors:
        if tensor["name"] == DOWN:
            tensor["digest"] = digests[UP]
    changed(folder, lambda held: held.update({DOWN: held[UP].reshape(32, 64).clone()}))
    refusal = hall.refuses(hall.forge(folder, tensors=tensors), "does not hash", path=WEIGHTS)
    assert DOWN in refusal.text


# Tied weights: one tensor under two names.


def tied(folder: Path) -> Path:
    return tiny_models.llama(folder, tied=True)


def test_a_tied_model_is_no_attack(hall: Hall, tmp_path: Path) -> None:
    hall.accepts(hall.forge(tied(tmp_path / "tied")))


@pytest.mark.parametrize("same", [True, False], ids=["with equal values", "with other values"])
def test_a_tied_tensor_that_is_there_twice_is_refused(
    hall: Hall, tmp_path: Path, same: bool
) -> None:
    folder = tied(tmp_path / "tied")

    def twice(tensors: Tensors) -> None:
        original = tensors["model.embed_tokens.weight"]
        tensors["lm_head.weight"] = original.clone() if same else -original

    changed(folder, twice)
    refusal = hall.refuses(hall.forge(folder), "the architecture has no such tensor")
    assert "lm_head.weight" in refusal.text


def test_a_tied_model_that_holds_the_other_name_is_refused(hall: Hall, tmp_path: Path) -> None:
    folder = tied(tmp_path / "tied")
    changed(
        folder,
        lambda tensors: tensors.update(
            {"lm_head.weight": tensors.pop("model.embed_tokens.weight")}
        ),
    )
    hall.refuses(hall.forge(folder), "lm_head.weight|model.embed_tokens.weight")


def test_an_untied_model_that_says_it_is_tied_is_refused(hall: Hall, folder: Path) -> None:
    """A reader that believes the configuration would drop the registered output layer."""
    edit_json(folder / "config.json", tie_word_embeddings=True)
    refusal = hall.refuses(hall.forge(folder), "the architecture has no such tensor")
    assert "lm_head.weight" in refusal.text


def test_a_tied_model_that_says_it_is_not_is_refused(hall: Hall, tmp_path: Path) -> None:
    """A reader that believes the configuration would make an output layer of random numbers."""
    folder = tied(tmp_path / "tied")
    edit_json(folder / "config.json", tie_word_embeddings=False)
    refusal = hall.refuses(hall.forge(folder), "the architecture needs this tensor")
    assert "lm_head.weight" in refusal.text


@pytest.mark.parametrize("value", ["true", 1, None, [True]], ids=repr)
def test_a_tie_that_is_no_truth_value_is_refused(hall: Hall, folder: Path, value: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": value}))
    hall.refuses(hall.forge(folder), "tie_word_embeddings is", path="config.json")


# Shards and the index over them


def sharded(folder: Path) -> dict[str, str]:
    """Cut the weights in two; return the index's map of them."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {}
    for number in (1, 2):
        shard = f"model-0000{number}-of-00002.safetensors"
        part = {n: t for n, t in tensors.items() if ("layers.1" in n) == (number == 2)}
        save_file(part, folder / shard)
        places |= dict.fromkeys(part, shard)
    return places


def indexed(folder: Path, places: Mapping[str, Any], **more: Any) -> None:
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": places, **more})
    (folder / INDEX).write_text(text)


def test_honest_shards_are_no_attack(hall: Hall, folder: Path) -> None:
    indexed(folder, sharded(folder))
    hall.accepts(hall.forge(folder))


ELSEWHERE = [
    "model-00002-of-00002.safetensors",
    "model-00003-of-00003.safetensors",
    "../elsewhere.safetensors",
    "/etc/passwd",
    "./model-00001-of-00002.safetensors",
    "model-00001-of-00002.safetensors/../model-00001-of-00002.safetensors",
    "https://evil.example/model.safetensors",
    "pytorch_model.bin",
    "",
]


@pytest.mark.parametrize("target", [*ELSEWHERE, None, 1, ["a", "b"], {"file": "a"}], ids=repr)
def test_an_index_that_sends_readers_elsewhere_is_refused(
    hall: Hall, folder: Path, target: object
) -> None:
    places = sharded(folder)
    indexed(folder, places | {NORM: target})
    hall.refuses(hall.forge(folder), "maps tensors to other files", path=INDEX)


def test_an_index_that_exchanges_shards_is_refused(hall: Hall, folder: Path) -> None:
    places = sharded(folder)
    one, two = sorted(set(places.values()))
    indexed(folder, {name: two if shard == one else one for name, shard in places.items()})
    hall.refuses(hall.forge(folder), "maps tensors to other files", path=INDEX)


@pytest.mark.parametrize(
    "map_of",
    [
        lambda places: {},
        lambda places: {name: shard for name, shard in places.items() if name != NORM},
        lambda places: {**places, "model.backdoor": "model-00001-of-00002.safetensors"},
        lambda places: list(places.items()),
        lambda places: None,
        lambda places: "model.safetensors",
    ],
    ids=["empty", "one missing", "one more", "a list", "null", "a text"],
)
def test_an_index_of_other_tensors_is_refused(
    hall: Hall, folder: Path, map_of: Callable[[dict[str, str]], Any]
) -> None:
    places = sharded(folder)
    indexed(folder, map_of(places))
    hall.refuses(hall.forge(folder), "maps tensors to other files", path=INDEX)


def test_an_index_without_a_map_is_refused(hall: Hall, folder: Path) -> None:
    sharded(folder)
    (folder / INDEX).write_text("{}")
    hall.refuses(hall.forge(folder), "maps tensors to other files", path=INDEX)


def test_an_index_over_one_file_is_checked_too(hall: Hall, folder: Path) -> None:
    indexed(folder, {NORM: "../elsewhere.safetensors"})
    hall.refuses(hall.forge(folder), "maps tensors to other files", path=INDEX)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin.index.json",
        "adapter_model.safetensors.index.json",
        "model.fp16.safetensors.index.json",
        "other/model.safetensors.index.json",
        "diffusion_pytorch_model.safetensors.index.json",
    ],
)
def test_an_index_under_another_name_is_refused(hall: Hall, folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"weight_map": {NORM: WEIGHTS}}))
    hall.refuses(hall.forge(folder), "is of a kind that is not loaded", path=name)


@pytest.mark.parametrize("name", ["old/model.safetensors", "a/b/c.safetensors", "x/.safetensors"])
def test_weights_in_a_folder_within_are_refused(hall: Hall, folder: Path, name: str) -> None:
    """No loader looks there; other readers would find no weights, or others."""
    (folder / name).parent.mkdir(parents=True)
    (folder / WEIGHTS).rename(folder / name)
    hall.register_refuses(folder, "weight files lie at the top")
    hall.refuses(hall.forge(folder), "weight files lie at the top", path=name)


@pytest.mark.parametrize("name", ["OTHER.SAFETENSORS", "model.safetensors.1", "other.Safetensors"])
def test_weights_under_a_name_that_is_not_theirs_are_refused(
    hall: Hall, folder: Path, name: str
) -> None:
    tensors = honest_tensors(folder)
    (folder / name).write_bytes((folder / WEIGHTS).read_bytes())
    hall.refuses(hall.forge(folder, tensors=tensors), "is of a kind that is not loaded", path=name)


def test_a_tensor_that_the_manifest_puts_into_another_file_is_refused(
    hall: Hall, folder: Path
) -> None:
    sharded(folder)
    one, two = sorted(path.name for path in folder.glob("*.safetensors"))
    tensors = honest_tensors(folder, one, two)
    for tensor in tensors:
        tensor["file"] = two if tensor["name"] == NORM else tensor["file"]
    tensors.sort(key=lambda tensor: (tensor["file"], tensor["name"]))
    # Room for it is made in the file that is said to hold it.
    changed_two = load_file(folder / two)
    save_file(changed_two, folder / two, metadata={"pad": "x" * 256})
    refusal = hall.refuses(hall.forge(folder, tensors=tensors), "not as the manifest|not fit into")
    assert NORM in refusal.text


def test_a_classifier_of_more_labels_than_outputs_is_refused(hall: Hall, tmp_path: Path) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "bad")
    names = {str(n): f"label {n}" for n in range(3)}
    edit_json(folder / "config.json", id2label=names)
    case = hall.forge(
        folder,
        task="classify",
        architecture="BertForSequenceClassification",
        serving=Serving("F32", 64, 0).to_json(),
    )
    refusal = hall.refuses(case, r"has the shape \[2.*, not \[3")
    assert "classifier." in refusal.text
