"""Packed weights: a decoder's matrices laid out as the kernels read them.

A packed copy is made from verified tensors only. It is registered as buffers of the module before
the resident digests are taken, so that it is hashed where it lies and checked again like any other
tensor: what is checked is what computes.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from inference.engine.kernels.vectors import LANES, PANEL

# Families whose layers the kernels compute; others run as transformers' own modules.
_MODEL_TYPES: Final = ("llama", "qwen2")
_ACTIVATIONS: Final = ("silu", "swish")
# float16 is widened once: its exponents are no part of a float32 as bfloat16's are.
_PACKED_DTYPES: Final = {
    torch.float32: torch.float32,
    torch.bfloat16: torch.bfloat16,
    torch.float16: torch.float32,
}
NAME: Final = "packed"


def is_packable(config: PreTrainedConfig, dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether a model is computed by the kernels, from a packed copy of its weights."""
    return (
        device.type == "cpu"
        and dtype in _PACKED_DTYPES
        and config.model_type in _MODEL_TYPES
        and config.hidden_act in _ACTIVATIONS
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
    )


def packed_bytes(config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Return what the packed copy takes, in bytes, without what fills up panels."""
    size = _PACKED_DTYPES[dtype].itemsize
    width = head_width(config)
    attention = config.hidden_size * width * 2 * (config.num_attention_heads + groups(config))
    layer = attention + 3 * config.hidden_size * config.intermediate_size
    rows = config.vocab_size * (1 if dtype in _PACKED_DTYPES.values() else 2)
    return int(size * (config.num_hidden_layers * layer + rows * config.hidden_size))


def pack(module: PreTrainedModel, positions: int) -> None:
    """Add to a module its packed copy, as the submodule `packed`.

    `positions` is how many positions a sequence may have.
    """
    module.add_module(NAME, PackedWeights(module, positions))


def head_width(config: PreTrainedConfig) -> int:
    """Return how many numbers a head has."""
    return int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )


def padded_width(config: PreTrainedConfig) -> int:
    """Return how many numbers a head takes in the kernels' cache: whole vectors."""
    return -(-head_width(config) // LANES) * LANES


def groups(config: PreTrainedConfig) -> int:
    """Return how many heads of keys and values there are."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


class PackedWeights(torch.nn.Module):
    """The packed copy: each buffer holds one kind of matrix of all layers.

    A matrix of shape (outputs, inputs) lies as panels of 64 outputs, each (inputs, 64); outputs
    are filled up with zeros to whole panels. `gate_up` takes turns, a panel of each. `biases` are
    those of queries, keys and values; `norms` (2 · layers + 1, hidden) in the order of use;
    `cosines` and `sines` (positions, half a head) are those of rotary positions.
    """

    def __init__(self, module: PreTrainedModel, positions: int) -> None:
        super().__init__()
        decoder: Any = module.model
        layers = list(decoder.layers)
        self._keep("qkv", _stacked([_qkv(layer.self_attn, "weight") for layer in layers]))
        self._keep("out", _stacked([layer.self_attn.o_proj.weight for layer in layers]))
        self._keep("gate_up", torch.stack([_gate_up(layer.mlp) for layer in layers]))
        self._keep("down", _stacked([layer.mlp.down_proj.weight for layer in layers]))
        self._keep("head", _panels(module.lm_head.weight))
        self._keep("biases", torch.stack([_biases(layer.self_attn) for layer in layers]).float())
        norms = [norm for layer in layers for norm in _norms(layer)]
        self._keep("norms", torch.stack([*norms, decoder.norm.weight]).float())
        numbers = torch.arange(positions)[None]
        cosines, sines = decoder.rotary_emb(torch.zeros(1), numbers)
        if decoder.embed_tokens.weight.dtype not in _PACKED_DTYPES.values():
            # Kernels cannot read it as it is.
            self._keep("embedding", decoder.embed_tokens.weight.float())
        half = cosines.shape[-1] // 2
        self._keep("cosines", cosines[0, :, :half])
        self._keep("sines", sines[0, :, :half])

    def _keep(self, name: str, tensor: torch.Tensor) -> None:
        self.register_buffer(name, tensor.detach().contiguous(), persistent=False)


def _norms(layer: Any) -> list[torch.Tensor]:
    return [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]


def _qkv(attention: Any, what: str) -> torch.Tensor:
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    return torch.cat([getattr(part, what) for part in parts])


def _biases(attention: Any) -> torch.Tensor:
    if attention.q_proj.bias is not None:
        return _qkv(attention, "bias")
    return torch.zeros(_qkv(attention, "weight").shape[0])


def _gate_up(mlp: Any) -> torch.Tensor:
    pairs = torch.stack([_panels(mlp.gate_proj.weight), _panels(mlp.up_proj.weight)], dim=1)
    return pairs.flatten(0, 1)


def _stacked(matrices: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([_panels(matrix) for matrix in matrices])


def _panels(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix (outputs, inputs) as panels (panels, inputs, 64)."""
    matrix = matrix.detach().to(_PACKED_DTYPES[matrix.dtype])
    outputs, inputs = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, 0, 0, -outputs % PANEL))
    return padded.view(-1, PANEL, inputs).transpose(1, 2).contiguous()
