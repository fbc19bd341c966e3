"""Keys and values of the tokens a model has read, so that each token is read once."""

from __future__ import annotations

import torch
from transformers import DynamicCache, PreTrainedConfig


class KvCache:
    """The cache of one sequence: transformers' `DynamicCache`, with a length and a size."""

    def __init__(self, config: PreTrainedConfig) -> None:
        self.states = DynamicCache(config=config)

    @property
    def length(self) -> int:
        """Return how many tokens were read."""
        return int(self.states.get_seq_length())

    @property
    def nbytes(self) -> int:
        """Return the memory in use, in bytes."""
        return sum(
            tensor.nbytes
            for layer in self.states.layers
            for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))
            if isinstance(tensor, torch.Tensor)
        )


def bytes_per_token(config: PreTrainedConfig, element_bytes: int) -> int:
    """Return what one token takes in the cache: keys and values of every layer."""
    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers) * heads * int(width) * element_bytes
