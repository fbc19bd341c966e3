"""Small real folders: a dataset of text, and a model as transformers would save it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG: Mapping[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 128,
}
_LETTERS = ("Ċ", "Ġ", *map(chr, range(33, 127)))
# Letters are tokens, and so is the end of a message.
TOKENIZER: Mapping[str, object] = {
    "version": "1.0",
    "added_tokens": [
        {
            "id": 96,
            "content": "<|end|>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
    ],
    "pre_tokenizer": {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    },
    "decoder": {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    },
    "model": {
        "type": "BPE",
        "vocab": {letter: id for id, letter in enumerate(_LETTERS)},
        "merges": [],
    },
}
TEMPLATE = "{% for message in messages %}{{ message.content }}<|end|>{% endfor %}"


def write_dataset(folder: Path, *, rows: int = 3) -> Path:
    (folder / "train").mkdir(parents=True)
    (folder / "README.md").write_text("Reviews and whether they liked it.\n")
    for row in range(rows):
        (folder / "train" / f"{row}.txt").write_text(f"review {row}: a fine film\n")
    return folder


def write_model(folder: Path, *, seed: int = 7, shards: int = 2) -> Path:
    """Write a config, a tokenizer and `shards` weight files of two tensors each."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    random = np.random.default_rng(seed)
    for shard in range(shards):
        tensors = {
            f"layers.{shard}.weight": random.standard_normal((64, 48)).astype(np.float32),
            f"layers.{shard}.bias": random.standard_normal(48).astype(np.float16),
        }
        save_file(tensors, folder / f"model-{shard}.safetensors")
    return folder
