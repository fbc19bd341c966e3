"""How a decoder will compute, and what memory that takes beside its weights: known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from transformers import PreTrainedConfig

from inference.engine.kernels.unit import has_bf16_unit
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.packing import groups, head_width, is_packable, packed_bytes, padded_width

# The cache has room for at least one full context, for more of them up to a gibibyte.
_CACHE_BYTES: Final = 1024**3
_MOST_CONTEXTS: Final = 64


@dataclass(frozen=True)
class ComputePlan:
    """Whether kernels compute from a packed copy, and what copy and cache take, in bytes.

    `paired` says that the processor's bfloat16 unit multiplies: what goes into products is rounded
    to bfloat16, and the cache holds it so. Without it all is computed in single precision.
    """

    packed: bool
    paired: bool
    packed_bytes: int
    block_bytes: int
    blocks: int

    @property
    def nbytes(self) -> int:
        """Return what is taken beside the weights."""
        return self.packed_bytes + self.block_bytes * self.blocks


def plan(
    config: PreTrainedConfig,
    *,
    dtype: torch.dtype,
    device: torch.device,
    context: int,
    adapted: bool = False,
    single: bool = False,
) -> ComputePlan:
    """Return how a model of `config` computes; `context` is the most tokens of one sequence.

    An adapted module computes as it is, because what an adapter adds stands beside its weights.
    `single` asks for what a processor without a bfloat16 unit does.
    """
    packed = is_packable(config, dtype, device) and not adapted
    paired = packed and dtype == torch.bfloat16 and not single and has_bf16_unit()
    width = padded_width(config) if packed else head_width(config)
    size = torch.float32.itemsize if packed and not paired else dtype.itemsize
    block_bytes = 2 * config.num_hidden_layers * groups(config) * width * size * BLOCK
    one = blocks_for(context)
    return ComputePlan(
        packed=packed,
        paired=paired,
        packed_bytes=packed_bytes(config, dtype) if packed else 0,
        block_bytes=block_bytes,
        blocks=min(max(one, _CACHE_BYTES // block_bytes), _MOST_CONTEXTS * one),
    )
