"""The model that is attacked: small, real, and with one file of every kind that matters.

Two weight shards with an index, configuration, generation configuration, tokenizer with its
configuration, chat template, and a README that is just over one chunk, so that one of its files is
a tree of blocks and not a single leaf.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from registry.ipfs.profile import MIB
from tests.inference import tiny_models

FIRST_SHARD = "model-00001-of-00002.safetensors"
SECOND_SHARD = "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
README = "README.md"
FILES = (
    README,
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    FIRST_SHARD,
    SECOND_SHARD,
    INDEX,
    "tokenizer.json",
    "tokenizer_config.json",
)


def write_victim(folder: Path, *, seed: int = 7) -> Path:
    """Write the model into `folder`, which is made; another seed makes other weights."""
    tiny_models.llama(folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tiny_models.VOCABULARY,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tiny_models.END_ID,
            pad_token_id=tiny_models.END_ID,
        )
    )
    # The embedding fills one shard, everything else the other.
    model.save_pretrained(folder, max_shard_size="9KB")
    line = b"This model exists to be attacked.\n"
    (folder / README).write_bytes((line * (MIB // len(line) + 2))[: MIB + 100])
    assert tuple(sorted(path.name for path in folder.iterdir())) == FILES
    return folder
