"""Adapters of the good model, and changes that make them hostile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

PREFIX = "base_model.model."
RANK = 4
# Name in the base: (inputs, outputs).
TARGETS = {
    f"model.layers.{layer}.self_attn.{name}": (32, outputs)
    for layer in (0, 1)
    for name, outputs in (("q_proj", 32), ("v_proj", 16))
}
Tensors = dict[str, torch.Tensor]


def lora(target: str, inputs: int, outputs: int, rank: int = RANK) -> Tensors:
    """Return the two tensors of one target, as peft names them."""
    generator = torch.Generator().manual_seed(len(target) + rank)
    return {
        f"{PREFIX}{target}.lora_A.weight": torch.randn(rank, inputs, generator=generator),
        f"{PREFIX}{target}.lora_B.weight": torch.randn(outputs, rank, generator=generator),
    }


BOMBS: list[dict[str, Any]] = [
    {"r": 10**9},
    {"r": 2**62},
    {"r": 257},
    {"r": 17},
    {"r": 0},
    {"r": -4},
    {"r": 4.0},
    {"r": True},
    {"r": "4"},
    {"lora_alpha": 1e300},
    {"lora_alpha": 65_537},
    {"lora_alpha": 0},
    {"lora_alpha": -8},
    {"lora_alpha": "8"},
    {"rank_pattern": {"q_proj": 10**6}},
    {"alpha_pattern": {"q_proj": 1e30}},
    {"layers_to_transform": list(range(10**5))},
    {"layer_replication": [[0, 2], [0, 2]] * 1000},
    {"target_modules": ["q_proj"] * 10_000},
    {"target_modules": [f"m{n}" for n in range(5_000)]},
]
TARGETS_OUTSIDE: list[Any] = [
    ["lm_head"],
    ["embed_tokens"],
    ["norm"],
    ["model.norm"],
    ["q_proj", "lm_head"],
    ["input_layernorm"],
    ["self_attn"],
    ["model.layers.7.self_attn.q_proj"],
    ["rotary_emb"],
    ["q_pro"],
    ["proj"],
    ["../../q_proj"],
    ["q_proj\0"],
    [".*"],
    [""],
    [["q_proj"]],
    [7],
    [],
    "all-linear",
    "(a+)+$",
    ".*q_proj",
    None,
    {"q_proj": 1},
]
OTHER_COMPUTATIONS: list[dict[str, Any]] = [
    {"peft_type": "IA3"},
    {"peft_type": "PROMPT_TUNING"},
    {"peft_type": None},
    {"task_type": "EVIL"},
    {"task_type": "SEQ_CLS"},
    {"task_type": ["CAUSAL_LM"]},
    {"bias": "all"},
    {"bias": "lora_only"},
    {"use_dora": True},
    {"use_qalora": True},
    {"lora_bias": True},
    {"fan_in_fan_out": True},
    {"fan_in_fan_out": "no"},
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": "lm_head"},
    {"trainable_token_indices": [256]},
    {"target_parameters": ["mlp.up_proj.weight"]},
    {"megatron_config": {"a": 1}},
    {"loftq_config": {"bits": 4}},
    {"eva_config": {"a": 1}},
    {"init_lora_weights": "pissa"},
    {"init_lora_weights": 7},
    {"exclude_modules": ["q_proj"]},
    {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}},
    {"auto_map": {"AutoModel": "evil.Model"}},
    {"custom_pipelines": {"evil": 1}},
    {"quantization_config": {"quant_method": "evil"}},
    {"trust_remote_code": True},
    {"_target_": "os.system"},
    {"runtime_config": {"ephemeral_gpu_offload": True}},
    {"evil": 1},
]

Q = "model.layers.0.self_attn.q_proj"
A, B = f"{PREFIX}{Q}.lora_A.weight", f"{PREFIX}{Q}.lora_B.weight"
SETS: dict[str, Callable[[Tensors], object]] = {
    "one of a pair is missing": lambda tensors: tensors.pop(B),
    "a layer is missing": lambda tensors: [tensors.pop(name) for name in (A, B)],
    "the base's own tensor": lambda tensors: tensors.update(
        {"base_model.model.model.norm.weight": torch.ones(32)}
    ),
    "the base's own weight": lambda tensors: tensors.update({f"{PREFIX}{Q}.weight": torch.ones(4)}),
    "the base's layer inside": lambda tensors: tensors.update(
        {f"{PREFIX}{Q}.base_layer.weight": torch.ones(32, 32)}
    ),
    "a tensor without the prefix": lambda tensors: tensors.update(
        {"lm_head.weight": torch.ones(4)}
    ),
    "a tensor for an embedding": lambda tensors: tensors.update(
        {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 4)}
    ),
    "a magnitude": lambda tensors: tensors.update(
        {f"{PREFIX}{Q}.lora_magnitude_vector": torch.ones(32)}
    ),
    "a bias": lambda tensors: tensors.update({f"{PREFIX}{Q}.lora_B.bias": torch.ones(32)}),
    "another target": lambda tensors: tensors.update(lora("model.layers.0.mlp.up_proj", 32, 64)),
    "a layer that is not there": lambda tensors: tensors.update(
        lora("model.layers.7.self_attn.q_proj", 32, 32)
    ),
    "a rank unlike the configuration's": lambda tensors: tensors.update(lora(Q, 32, 32, rank=5)),
    "a rank of thousands": lambda tensors: tensors.update(lora(Q, 32, 32, rank=5000)),
    "a wrong side": lambda tensors: tensors.update(lora(Q, 31, 32)),
    "turned": lambda tensors: tensors.update({A: torch.ones(32, RANK)}),
    "half precision": lambda tensors: tensors.update({A: torch.ones(RANK, 32).half()}),
    "NaN": lambda tensors: tensors[A].view(-1)[3:4].fill_(float("nan")),
    "infinity": lambda tensors: tensors[B].view(-1)[3:4].fill_(float("inf")),
    "only denormal": lambda tensors: tensors[A].fill_(1e-40),
}
