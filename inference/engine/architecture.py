"""The architectures that are loaded, and the module of one built without taking memory.

A config.json is data by a publisher. Only fields of the table reach transformers, each within
bounds; a field that is neither known nor known to be harmless is refused, because it could ask
for a computation other than the one that would take place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)

from inference.engine.config_rules import (
    BERT_FIELDS,
    GPT2_FIELDS,
    LLAMA_FIELDS,
    QWEN2_FIELDS,
    VIT_FIELDS,
    Fields,
    check_fields,
)
from inference.errors import LoadRefusedError

PATH: Final = "config.json"
# What constructors of transformers and torch raise for numbers that they cannot use.
_CONSTRUCTION_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Architecture:
    """One architecture of the allow-list: what it does, its classes, its config's fields.

    `sees` says that it reads images and no text.
    """

    task: str
    model_type: str
    config: type[PreTrainedConfig]
    model: type[PreTrainedModel]
    fields: Fields
    sees: bool = False


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "LlamaForCausalLM": Architecture("chat", "llama", LlamaConfig, LlamaForCausalLM, LLAMA_FIELDS),
    "Qwen2ForCausalLM": Architecture("chat", "qwen2", Qwen2Config, Qwen2ForCausalLM, QWEN2_FIELDS),
    "GPT2LMHeadModel": Architecture("chat", "gpt2", GPT2Config, GPT2LMHeadModel, GPT2_FIELDS),
    "BertForSequenceClassification": Architecture(
        "classify", "bert", BertConfig, BertForSequenceClassification, BERT_FIELDS
    ),
    "BertModel": Architecture("embed", "bert", BertConfig, BertModel, BERT_FIELDS),
    "ViTForImageClassification": Architecture(
        "classify", "vit", ViTConfig, ViTForImageClassification, VIT_FIELDS, sees=True
    ),
}


def read_config(raw: Mapping[str, Any], *, layers_at_most: int) -> PreTrainedConfig:
    """Return the configuration that a parsed config.json describes.

    `layers_at_most` bounds the number of layers, which are Python objects even on the meta
    device: there is at least one tensor for each. Raises `LoadRefusedError`.
    """
    architecture = architecture_of(raw)
    kept = check_fields(raw, architecture.fields)
    try:
        config = architecture.config(**{**kept, "attn_implementation": "sdpa"})
    except (StrictDataclassError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise LoadRefusedError(PATH, f"is not a configuration: {error!s:.200}") from error
    if config.num_hidden_layers > layers_at_most:
        raise LoadRefusedError(
            PATH,
            f"num_hidden_layers is {config.num_hidden_layers}, "
            f"but the manifest lists {layers_at_most} tensors",
        )
    if config.hidden_size % config.num_attention_heads:
        raise LoadRefusedError(PATH, "hidden_size is no multiple of num_attention_heads")
    _check_heads(config)
    if architecture.sees and not config.patch_size <= config.image_size:
        raise LoadRefusedError(PATH, "patch_size is larger than image_size")
    return config


def positions(config: PreTrainedConfig) -> int:
    """Return how many tokens a model reads at most: of an image its patches, and one for all."""
    if hasattr(config, "image_size"):
        return int((config.image_size // config.patch_size) ** 2) + 1
    return int(config.max_position_embeddings)


def architecture_of(raw: Mapping[str, Any]) -> Architecture:
    """Return the allowed architecture that a parsed config.json names, or raise."""
    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise LoadRefusedError(
            PATH,
            f"architectures is {names!r:.100}, not one of {', '.join(ARCHITECTURES)}",
        )
    architecture = ARCHITECTURES[name]
    if raw.get("model_type") != architecture.model_type:
        raise LoadRefusedError(PATH, f"model_type is not {architecture.model_type}")
    return architecture


def build_empty(name: str, config: PreTrainedConfig) -> PreTrainedModel:
    """Return the module on the meta device: shapes and names, no memory.

    Raises `LoadRefusedError` for values that each are allowed and do not go together.
    """
    try:
        with torch.device("meta"):
            return ARCHITECTURES[name].model(config)
    except _CONSTRUCTION_ERRORS as error:
        raise LoadRefusedError(PATH, f"makes no {name}: {error!s:.200}") from error


def _check_heads(config: PreTrainedConfig) -> None:
    """Refuse heads that could be built and not computed with: the first call would fail."""
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    if config.num_attention_heads % groups:
        raise LoadRefusedError(PATH, "num_attention_heads is no multiple of num_key_value_heads")
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if hasattr(config, "rope_parameters") and width % 2:
        raise LoadRefusedError(PATH, f"its heads have {width} dimensions; rotating needs pairs")


def tied_names(module: PreTrainedModel) -> dict[str, str]:
    """Return the parameters that are another one under a second name: name to original.

    A file of weights holds the original only.
    """
    if not getattr(module.config, "tie_word_embeddings", False):
        return {}
    present = module.state_dict().keys()
    tied: Mapping[str, str] = getattr(module, "_tied_weights_keys", None) or {}
    return {name: original for name, original in tied.items() if name in present}


def restore_buffers(module: PreTrainedModel, device: torch.device) -> None:
    """Compute the buffers that no file holds: rotary frequencies, position numbers.

    They follow from the configuration alone. Raises `LoadRefusedError` for a buffer that is not
    known here, since it would be left without a value.
    """
    for path, part in module.named_modules():
        buffers = dict(part.named_buffers(recurse=False))
        if not buffers:
            continue
        if set(buffers) == {"inv_freq", "original_inv_freq"}:
            # The class computes them in its constructor, here outside the meta device.
            fresh = type(part)(part.config)
            values = dict(fresh.named_buffers(recurse=False))
            if not all(bool((v.isfinite() & (v > 0)).all()) for v in values.values()):
                raise LoadRefusedError(PATH, "gives rotary frequencies that are no numbers")
        elif set(buffers) == {"position_ids", "token_type_ids"}:
            length = buffers["position_ids"].shape[-1]
            positions = torch.arange(length).expand((1, -1)).clone()
            values = {"position_ids": positions, "token_type_ids": torch.zeros_like(positions)}
        else:
            raise LoadRefusedError(PATH, f"{path} has buffers that cannot be computed")
        for name, value in values.items():
            setattr(part, name, torch.nn.Buffer(value.to(device), persistent=False))
