"""Row 19: configurations that ask for more memory or time than the model's own size needs.

Every refusal is bounded: memory is known from the manifest before anything is allocated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from registry.manifest import Serving
from tests.attacks.hall import Hall
from tests.inference import tiny_models
from tests.inference.tiny_models import edit_json

CONFIG = "config.json"
# A refusal looks at some kilobytes.
GROWTH_MB = 64
SECONDS = 10.0

LLAMA: list[dict[str, Any]] = [
    {"num_hidden_layers": 10**6},
    {"num_hidden_layers": 2**12},
    {"num_hidden_layers": 2**63},
    {"num_hidden_layers": 10**39},
    {"num_hidden_layers": 22},
    {"num_hidden_layers": 0},
    {"num_hidden_layers": -1},
    {"num_hidden_layers": 2.0},
    {"num_hidden_layers": True},
    {"num_hidden_layers": "2"},
    {"num_hidden_layers": [2]},
    {"vocab_size": 2**31},
    {"vocab_size": 2**22},
    {"vocab_size": 2**22 + 1},
    {"vocab_size": 10**39},
    {"vocab_size": 0},
    {"vocab_size": -260},
    {"vocab_size": 260.0},
    {"vocab_size": 1e300},
    {"hidden_size": 2**22},
    {"hidden_size": 2**40},
    {"hidden_size": 33},
    {"hidden_size": 0},
    {"intermediate_size": 2**22},
    {"intermediate_size": 2**40},
    {"intermediate_size": None},
    {"num_attention_heads": 2**12},
    {"num_attention_heads": 10**9},
    {"num_attention_heads": 0},
    {"num_key_value_heads": 2**12},
    {"num_key_value_heads": 3},
    {"num_key_value_heads": 0},
    {"head_dim": 2**12},
    {"head_dim": 2**30},
    {"head_dim": 1},
    {"head_dim": 7},
    {"rms_norm_eps": 1e300},
    {"rms_norm_eps": 0},
    {"rms_norm_eps": -1e-5},
    {"rms_norm_eps": "1e-5"},
    {"max_position_embeddings": 2**31},
    {"max_position_embeddings": 2**62},
    {"max_position_embeddings": 10**39},
    {"max_position_embeddings": 0},
    {"max_position_embeddings": -1},
    {"max_position_embeddings": 1e9},
    {"rope_theta": 0},
    {"rope_theta": -1},
    {"rope_theta": 1e300},
    {"rope_theta": "10000"},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 0}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e300}},
    {"rope_parameters": {"rope_type": "evil"}},
    {"rope_parameters": {"rope_type": ["default"]}},
    {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    {"rope_parameters": {"rope_type": "longrope", "long_factor": [1.0] * 10**5}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 0}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": -1}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 1e300}},
    {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 1e12}},
    {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0, "beta_fast": 0}},
    {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0}},
    {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 1e4,
            "factor": 8.0,
            "low_freq_factor": 4.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "evil": 1}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 9}},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0}},
    {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    {"rope_parameters": []},
    {"rope_scaling": {"type": "dynamic", "factor": 1e12}},
    {"eos_token_id": list(range(10**5))},
    {"eos_token_id": 2**31},
    {"pad_token_id": 2**40},
    {"bos_token_id": -(2**31)},
    {"eos_token_id": []},
    {"pad_token_id": 260},
    {"pad_token_id": 2**21},
    {"num_attention_heads": 8},
    {"num_attention_heads": 1},
]


@pytest.mark.parametrize("change", LLAMA, ids=lambda change: json.dumps(change)[:70])
def test_a_bomb_in_a_configuration_is_refused(
    hall: Hall, folder: Path, change: dict[str, Any]
) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refusal = hall.refuses(
        hall.forge(folder), next(iter(change)) + SHAPES, growth_mb=GROWTH_MB, seconds=SECONDS
    )
    assert len(refusal.text) < 500


# What the tensors themselves contradict is refused by name and shape.
SHAPES = "|has the shape|needs this tensor|no such tensor|config.json: "

GPT2: list[dict[str, Any]] = [
    {"n_positions": 2**22},
    {"n_positions": 2**40},
    {"n_positions": 0},
    {"n_embd": 2**22},
    {"n_layer": 10**6},
    {"n_layer": 2**12},
    {"n_inner": 2**22},
    {"n_head": 2**12},
    {"vocab_size": 2**31},
    {"layer_norm_epsilon": 1e300},
]


@pytest.mark.parametrize("change", GPT2, ids=json.dumps)
def test_a_bomb_in_a_gpt2_is_refused(hall: Hall, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tiny_models.gpt2(tmp_path / "bad")
    edit_json(folder / CONFIG, **change)
    case = hall.forge(folder, architecture="GPT2LMHeadModel")
    rule = next(iter(change)) + SHAPES
    hall.refuses(case, rule, growth_mb=GROWTH_MB, seconds=SECONDS)


BERT: list[dict[str, Any]] = [
    {"max_position_embeddings": 2**22},
    {"type_vocab_size": 2**31},
    {"num_hidden_layers": 10**6},
    {"vocab_size": 2**31},
    {"chunk_size_feed_forward": 1},
    {"position_embedding_type": "relative_key_query"},
    {"is_decoder": True},
    {"add_cross_attention": True},
    {"id2label": {str(n): str(n) for n in range(2**14 + 1)}},
    {"id2label": {"0": "a", "2": "b"}},
    {"id2label": {"0": "a", "1": "a"}},
    {"id2label": {"0": "a", "1": ["b"]}},
    {"id2label": {"0": "a", "1": "b" * 10_000}},
    {"id2label": {"00": "a", "1": "b"}},
    {"id2label": {}},
]


@pytest.mark.parametrize("change", BERT, ids=lambda change: json.dumps(change)[:60])
def test_a_bomb_in_a_classifier_is_refused(
    hall: Hall, tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "bad")
    edit_json(folder / CONFIG, **change)
    case = hall.forge(
        folder,
        task="classify",
        architecture="BertForSequenceClassification",
        serving=Serving("F32", 64, 0).to_json(),
    )
    rule = next(iter(change)) + SHAPES
    hall.refuses(case, rule, growth_mb=GROWTH_MB, seconds=SECONDS)


# Serving limits of the manifest


@pytest.mark.parametrize(
    ("context", "rule"),
    [
        (129, "has 128 positions, fewer than the 129"),
        # A running node counts what the cache would take before it asks what the model allows.
        (2**40, r"fewer than|needs \d+ bytes"),
        (2**53 - 1, r"fewer than|needs \d+ bytes"),
        (0, "serving.max_context is zero"),
        (-1, "max_context"),
    ],
)
def test_a_context_beyond_the_model_is_refused(
    hall: Hall, folder: Path, context: int, rule: str
) -> None:
    serving = {"dtype": "F32", "max_context": context, "max_output": 1}
    hall.refuses(hall.forge(folder, serving=serving), rule, growth_mb=GROWTH_MB)


def test_a_cache_that_does_not_fit_into_memory_is_refused_before_it_is_taken(
    hall: Hall, folder: Path
) -> None:
    """The model allows 2^27 positions; their keys and values would take 64 GiB."""
    edit_json(folder / CONFIG, max_position_embeddings=2**27)
    serving = Serving("F32", 2**27, 1).to_json()
    refusal = hall.refuses(
        hall.forge(folder, serving=serving), r"needs \d+ bytes", growth_mb=GROWTH_MB
    )
    assert "free" in refusal.text


def test_an_answer_longer_than_the_context_is_refused(hall: Hall, folder: Path) -> None:
    serving = {"dtype": "F32", "max_context": 64, "max_output": 65}
    hall.refuses(hall.forge(folder, serving=serving), "max_output is beyond max_context")


# Files whose size is the bomb


@pytest.mark.parametrize("name", [CONFIG, "generation_config.json", "tokenizer_config.json"])
def test_a_configuration_of_many_megabytes_is_refused_unread(
    hall: Hall, folder: Path, name: str
) -> None:
    value = json.loads((folder / name).read_text()) | {"_name_or_path": "x" * (8 * 1024 * 1024)}
    (folder / name).write_text(json.dumps(value))
    hall.refuses(hall.forge(folder), r"has \d+ bytes, more than 1048576", path=name, growth_mb=64)


def test_a_model_larger_than_the_policy_is_refused_unread(hall: Hall, folder: Path) -> None:
    """The file is sparse: 65 GiB that take no room, and must not be read."""
    with (folder / "extra.txt").open("wb") as file:
        file.write(b"x")
    case = hall.forge(folder)
    manifest = json.loads(hall.manifest_of(case))
    entry = next(file for file in manifest["files"] if file["path"] == "extra.txt")
    entry["size"] = 65 * 1024**3
    manifest["root"] = hall.root_of(manifest["files"])
    with (folder / "extra.txt").open("wb") as file:
        file.truncate(65 * 1024**3)
    case = type(case)(hall.publish(manifest), folder)
    hall.refuses(case, "the policy allows", growth_mb=GROWTH_MB, seconds=SECONDS)


def test_more_layers_than_tensors_are_refused_before_they_are_built(
    hall: Hall, folder: Path
) -> None:
    """Layers without memory still are Python objects: some milliseconds and 50 KB each."""
    edit_json(folder / CONFIG, num_hidden_layers=4000)
    refusal = hall.refuses(
        hall.forge(folder), "num_hidden_layers is 4000, but", path=CONFIG, growth_mb=16
    )
    assert refusal.seconds < 5


def shaped(folder: Path, **config: Any) -> Path:
    """Write a model whose tensors are what its odd configuration asks for."""
    made = {
        "vocab_size": tiny_models.VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "eos_token_id": tiny_models.END_ID,
        "pad_token_id": None,
        "bos_token_id": None,
    }
    torch.manual_seed(7)
    LlamaForCausalLM(LlamaConfig(**made | config)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"num_key_value_heads": 3, "head_dim": 8}, "no multiple of num_key_value_heads"),
        ({"head_dim": 3}, "its heads have 3 dimensions"),
        ({"hidden_size": 4, "num_attention_heads": 4}, "head_dim is 1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_heads_that_cannot_be_computed_with_are_refused_though_the_tensors_fit(
    hall: Hall, folder: Path, config: dict[str, Any], rule: str
) -> None:
    shaped(folder, **config)
    hall.refuses(hall.forge(folder), rule, path=CONFIG)
