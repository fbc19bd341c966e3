"""Which fields of a config.json are known, within which bounds. No torch here: only rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from inference.errors import LoadRefusedError

# A rule returns whether a value is allowed; None in its place means: known, harmless, not used.
Rule: TypeAlias = "Callable[[Any], bool]"
Fields: TypeAlias = "Mapping[str, Rule | None]"

_PATH: Final = "config.json"
# Larger than any published model; the manifest's tensors bound what is really allocated.
_MAX_SIZE: Final = 2**22
_MAX_LAYERS: Final = 2**12
_MAX_LABELS: Final = 2**14
_ACTIVATIONS: Final = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish", "tanh")
# "dynamic" and "longrope" change their frequencies by the length of what was read before; a call
# could not be replayed alone.
_ROPE_TYPES: Final = ("default", "linear", "llama3", "yarn")


def check_fields(raw: Mapping[str, Any], fields: Fields, *, path: str = _PATH) -> dict[str, Any]:
    """Return the fields of a parsed configuration that are passed on; `path` is its file.

    Raises `LoadRefusedError` that names a field which is unknown or out of bounds.
    """
    kept = {}
    for name, value in raw.items():
        if name not in fields:
            raise LoadRefusedError(path, f"has the unknown field {name!r:.60}")
        rule = fields[name]
        if rule is None:
            continue
        if not rule(value):
            raise LoadRefusedError(path, f"{name} is {value!r:.60}, which is not allowed")
        kept[name] = value
    return kept


def _whole(low: int, high: int) -> Rule:
    return lambda value: type(value) is int and low <= value <= high


def _number(low: float, high: float) -> Rule:
    return lambda value: (
        type(value) in (int, float) and math.isfinite(value) and low <= value <= high
    )


def _choice(*allowed: object) -> Rule:
    # 0 == False in Python, so types are compared too.
    return lambda value: any(type(value) is type(a) and value == a for a in allowed)


def _optional(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _token(value: Any) -> bool:
    """Allow a token id, several, or none. Llama 2 writes -1 for none."""
    ids = value if isinstance(value, list) else [value]
    return value is None or (
        0 < len(ids) <= 64 and all(type(i) is int and -1 <= i < _MAX_SIZE for i in ids)
    )


def _rope(value: Any) -> bool:
    """Allow what rotary frequencies are computed from, if it gives finite ones in an order."""
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    rest = dict(value)
    kinds = [rest.pop(key) for key in ("rope_type", "type") if key in rest]
    truncate = rest.pop("truncate", False)
    return (
        all(kind in _ROPE_TYPES for kind in kinds)
        and isinstance(truncate, bool)
        and all(name in _ROPE_NUMBERS and _ROPE_NUMBERS[name](rest[name]) for name in rest)
        and rest.get("low_freq_factor", 1) < rest.get("high_freq_factor", math.inf)
        and rest.get("beta_slow", 1) < rest.get("beta_fast", math.inf)
    )


def _full_attention(value: Any) -> bool:
    return value is None or (
        isinstance(value, list) and all(kind == "full_attention" for kind in value)
    )


def _labels(value: Any) -> bool:
    """Allow names by number as text, without a gap."""
    return (
        isinstance(value, dict)
        and 0 < len(value) <= _MAX_LABELS
        and set(value) == {str(number) for number in range(len(value))}
        and all(isinstance(name, str) and 0 < len(name) <= 200 for name in value.values())
        and len(set(value.values())) == len(value)
    )


_SIZE: Final = _whole(1, _MAX_SIZE)
_POSITIONS: Final = _whole(1, 2**27)
_THETA: Final = _number(2.0, 1e12)
_ROPE_FACTOR: Final = _number(1e-3, 1e6)
# Wide bounds beside what is published; within them no frequency becomes zero or infinite.
_ROPE_NUMBERS: Final[Mapping[str, Rule]] = {
    "attention_factor": _number(1e-3, 1e3),
    "beta_fast": _ROPE_FACTOR,
    "beta_slow": _ROPE_FACTOR,
    "factor": _number(1.0, 2.0**16),
    "high_freq_factor": _ROPE_FACTOR,
    "low_freq_factor": _ROPE_FACTOR,
    "mscale": _number(0.0, 1e3),
    "mscale_all_dim": _number(0.0, 1e3),
    "original_max_position_embeddings": _POSITIONS,
    # The architectures here rotate whole heads, whatever a configuration says.
    "partial_rotary_factor": _choice(1, 1.0),
    "rope_theta": _THETA,
}
_LAYERS: Final = _whole(1, _MAX_LAYERS)
_EPSILON: Final = _number(1e-14, 1e-1)
_COMMON: Final[Fields] = {
    # Checked before this table is used, or meaningless once the tensors are there.
    **dict.fromkeys(("architectures", "model_type", "dtype", "torch_dtype")),
    **dict.fromkeys(("_name_or_path", "_model_name_or_path", "transformers_version")),
    **dict.fromkeys(("gradient_checkpointing", "initializer_range", "use_cache")),
    **dict.fromkeys(("output_attentions", "output_hidden_states", "finetuning_task")),
    "is_decoder": _choice(False),
    "is_encoder_decoder": _choice(False),
    "add_cross_attention": _choice(False),
    "tie_word_embeddings": _flag,
    "vocab_size": _SIZE,
    "bos_token_id": _token,
    "eos_token_id": _token,
    "pad_token_id": _token,
    "unk_token_id": None,
    "chunk_size_feed_forward": _choice(0),
}
_DECODER: Final[Fields] = {
    **_COMMON,
    **dict.fromkeys(("attention_dropout", "pretraining_tp")),
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _LAYERS,
    "num_key_value_heads": _optional(_LAYERS),
    "hidden_act": _choice(*_ACTIVATIONS),
    "max_position_embeddings": _POSITIONS,
    "rms_norm_eps": _EPSILON,
    "rope_theta": _THETA,
    "rope_scaling": _rope,
    "rope_parameters": _rope,
}
LLAMA_FIELDS: Final[Fields] = {
    **_DECODER,
    **dict.fromkeys(("is_llama_config", "transformers.js_config")),
    "rope_interleaved": _choice(False),
    "head_dim": _optional(_whole(2, 2**12)),
    "attention_bias": _flag,
    "mlp_bias": _flag,
}
QWEN2_FIELDS: Final[Fields] = {
    **_DECODER,
    **dict.fromkeys(("sliding_window", "max_window_layers")),
    "use_mrope": _choice(False),
    "use_sliding_window": _choice(False),
    "layer_types": _full_attention,
}
GPT2_FIELDS: Final[Fields] = {
    **_COMMON,
    **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop", "n_ctx", "task_specific_params")),
    **dict.fromkeys(("summary_activation", "summary_first_dropout", "summary_proj_to_labels")),
    **dict.fromkeys(("summary_type", "summary_use_proj")),
    "n_positions": _whole(1, _MAX_SIZE),
    "n_embd": _SIZE,
    "n_layer": _LAYERS,
    "n_head": _LAYERS,
    "n_inner": _optional(_SIZE),
    "activation_function": _choice(*_ACTIVATIONS),
    "layer_norm_epsilon": _EPSILON,
    "scale_attn_weights": _flag,
    "scale_attn_by_inverse_layer_idx": _flag,
    "reorder_and_upcast_attn": _flag,
}
BERT_FIELDS: Final[Fields] = {
    **_COMMON,
    **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout")),
    **dict.fromkeys(("label2id", "problem_type")),
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _LAYERS,
    "hidden_act": _choice(*_ACTIVATIONS),
    "layer_norm_eps": _EPSILON,
    "max_position_embeddings": _whole(1, _MAX_SIZE),
    "position_embedding_type": _choice("absolute"),
    "type_vocab_size": _whole(1, 64),
    "id2label": _labels,
}
# Pixels to a side; what a model sees at once has been a few hundred.
_PIXELS: Final = _whole(1, 2048)
VIT_FIELDS: Final[Fields] = {
    **dict.fromkeys(("architectures", "model_type", "dtype", "torch_dtype")),
    **dict.fromkeys(("_name_or_path", "transformers_version", "initializer_range")),
    **dict.fromkeys(("output_attentions", "output_hidden_states", "finetuning_task")),
    **dict.fromkeys(("attention_probs_dropout_prob", "hidden_dropout_prob", "label2id")),
    # Of parts that a classifier of images does not have: a pooler, a decoder.
    **dict.fromkeys(("encoder_stride", "pooler_act", "pooler_output_size", "problem_type")),
    "is_encoder_decoder": _choice(False),
    "chunk_size_feed_forward": _choice(0),
    "hidden_size": _SIZE,
    "intermediate_size": _SIZE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _LAYERS,
    "hidden_act": _choice(*_ACTIVATIONS),
    "layer_norm_eps": _EPSILON,
    "image_size": _PIXELS,
    "patch_size": _PIXELS,
    "num_channels": _choice(3),
    "qkv_bias": _flag,
    "id2label": _labels,
}


def _side(value: Any) -> bool:
    """Allow a size in pixels: one number, or equal height and width."""
    if isinstance(value, dict):
        return set(value) == {"height", "width"} and all(_PIXELS(side) for side in value.values())
    return _PIXELS(value)


def _by_channel(low: float, high: float) -> Rule:
    number = _number(low, high)
    return lambda value: isinstance(value, list) and len(value) == 3 and all(map(number, value))


PREPROCESSOR_FIELDS: Final[Fields] = {
    "image_processor_type": _choice(
        "ViTImageProcessor", "ViTImageProcessorFast", "ViTImageProcessorPil"
    ),
    "feature_extractor_type": _choice("ViTFeatureExtractor"),
    "do_resize": _choice(True),
    "do_rescale": _flag,
    "do_normalize": _flag,
    # What comes in is made RGB anyway.
    "do_convert_rgb": _optional(_flag),
    "size": _side,
    # Pillow's numbers of its filters.
    "resample": _whole(0, 5),
    "rescale_factor": _number(1e-6, 1e3),
    "image_mean": _by_channel(-1e3, 1e3),
    "image_std": _by_channel(1e-6, 1e3),
}
