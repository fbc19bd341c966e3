"""LoRA adapters with random weights, written by hand as peft 0.21 writes them. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
RANK = 4
# Every field, in peft's own order.
FIELDS: Mapping[str, object] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "somebody/some-model",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": RANK,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}


def adapter(
    folder: Path, sides: Mapping[str, tuple[int, int]], *, seed: int = 3, **fields: object
) -> Path:
    """Write an adapter; `sides` maps names of the base's modules to (inputs, outputs)."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    tensors = {}
    for name, (inputs, outputs) in sides.items():
        for part, shape in (("lora_A", (RANK, inputs)), ("lora_B", (outputs, RANK))):
            values = random.standard_normal(shape).astype(np.float32)
            tensors[f"base_model.model.{name}.{part}.weight"] = values
    save_file(tensors, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({**FIELDS, **fields}, indent=2))
    return folder


def attention(
    layers: Iterable[int], width: int, kind: str = "q_proj"
) -> dict[str, tuple[int, int]]:
    """Return the sides of one square projection in each of a llama's layers."""
    return {f"model.layers.{n}.self_attn.{kind}": (width, width) for n in layers}
