"""Packed weights: a decoder's matrices laid out as the kernels read them.

A packed copy is made from verified tensors only. It is registered as buffers of the module before
the resident digests are taken, so that it is hashed where it lies and checked again like any other
tensor: what is checked is what computes.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.vectors import PANEL
from inference.engine.placement import private_memory

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
# What the two arithmetics are called in an engine's name, and so in receipts: see `ComputePlan`.
SINGLE: Final = "packed"
PAIRED: Final = "packed-bf16"


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


def pack(module: PreTrainedModel, positions: int, *, paired: bool) -> None:
    """Add to a module its packed copy, as the submodule `packed`.

    `positions` is how many positions a sequence may have; `paired` is for the processor's bfloat16
    unit, see `ComputePlan`.
    """
    module.add_module(NAME, PackedWeights(module, positions, paired=paired))


def is_paired(module: PreTrainedModel) -> bool:
    """Return whether a module's packed copy is for the processor's bfloat16 unit."""
    return bool(module.get_submodule(NAME).paired)


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
    """The packed copy: each buffer holds one kind of matrix, of all layers where all have one.

    A matrix of shape (outputs, inputs) lies as panels of 64 outputs, each (inputs, 64), or where
    the copy is `paired` (inputs / 2, 64, 2); outputs are filled up with zeros to whole panels, and
    inputs to whole pairs. `gate_up` takes turns, a panel of each. `biases` are
    those of queries, keys and values; `norms` (2 · layers + 1, hidden) in the order of use;
    `cosines` and `sines` (1, positions, half a head) are those of rotary positions.
    """

    def __init__(self, module: PreTrainedModel, positions: int, *, paired: bool) -> None:
        super().__init__()
        self.paired = paired
        decoder: Any = module.model
        layers = list(decoder.layers)
        count = len(layers)
        self._keep("qkv", count, lambda n: self._panels(_qkv(layers[n].self_attn, "weight")))
        self._keep("out", count, lambda n: self._panels(layers[n].self_attn.o_proj.weight))
        self._keep("gate_up", count, lambda n: self._gate_up(layers[n].mlp))
        self._keep("down", count, lambda n: self._panels(layers[n].mlp.down_proj.weight))
        self._keep("head", 1, lambda _: self._panels(module.lm_head.weight))
        self._keep("biases", count, lambda n: _biases(layers[n].self_attn))
        norms = [*(weight for layer in layers for weight in _norms(layer)), decoder.norm.weight]
        self._keep("norms", len(norms), lambda n: norms[n].float())
        if decoder.embed_tokens.weight.dtype not in _PACKED_DTYPES.values():
            # Kernels cannot read it as it is.
            self._keep("embedding", 1, lambda _: decoder.embed_tokens.weight.float())
        cosines, sines = decoder.rotary_emb(torch.zeros(1), torch.arange(positions)[None])
        half = cosines.shape[-1] // 2
        self._keep("cosines", 1, lambda _: cosines[0, :, :half])
        self._keep("sines", 1, lambda _: sines[0, :, :half])

    def _keep(self, name: str, count: int, part: Callable[[int], torch.Tensor]) -> None:
        """Register a buffer of (count, …); only one part at a time is in memory twice."""
        first = part(0).detach()
        shape = (count, *first.shape)
        memory = private_memory(prod(shape) * first.itemsize)
        flat = torch.frombuffer(memory, dtype=first.dtype, count=prod(shape))
        # `data` is no view: nothing holds the memory but this buffer.
        buffer = flat.view(shape).data
        for number in range(count):
            buffer[number] = part(number).detach() if number else first
        self.register_buffer(name, buffer, persistent=False)

    def _gate_up(self, mlp: Any) -> torch.Tensor:
        parts = (mlp.gate_proj.weight, mlp.up_proj.weight)
        return torch.stack([self._panels(part) for part in parts], dim=1).flatten(0, 1)

    def _panels(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return a matrix (outputs, inputs) as panels: (panels, inputs, 64), or in pairs."""
        matrix = matrix.detach().to(_PACKED_DTYPES[matrix.dtype])
        outputs, inputs = matrix.shape
        taken = 2 if self.paired else 1
        padded = torch.nn.functional.pad(matrix, (0, -inputs % taken, 0, -outputs % PANEL))
        # The outputs of a panel change fastest, but for the inputs of a pair.
        parts = padded.view(-1, PANEL, padded.shape[1] // taken, taken).transpose(1, 2)
        return parts.flatten(2).reshape(parts.shape[0], padded.shape[1], PANEL)


def _norms(layer: Any) -> list[torch.Tensor]:
    return [layer.input_layernorm.weight, layer.post_attention_layernorm.weight]


def _qkv(attention: Any, what: str) -> torch.Tensor:
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    return torch.cat([getattr(part, what) for part in parts])


def _biases(attention: Any) -> torch.Tensor:
    if attention.q_proj.bias is not None:
        return _qkv(attention, "bias").float()
    return torch.zeros(_qkv(attention, "weight").shape[0])
