"""BERT over many texts at once without padding: their tokens lie one after another.

The linear layers see one long row of tokens, whoever they belong to; attention is computed for
texts of equal length together and reaches only a text's own tokens. It computes with the module's
own layers and parameters, which are those that were verified, and equals transformers' forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import torch
from torch.nn.functional import scaled_dot_product_attention

Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """Texts one after another: `states` is (tokens, width).

    `groups` are runs of texts of equal length: how many texts, how many tokens each.
    """

    states: torch.Tensor
    groups: tuple[tuple[int, int], ...]

    def grouped(self) -> Iterator[torch.Tensor]:
        """Yield each group's states: (texts, tokens, width)."""
        sizes = [texts * tokens for texts, tokens in self.groups]
        parts = torch.split(self.states, sizes)
        for part, (texts, tokens) in zip(parts, self.groups, strict=True):
            yield part.view(texts, tokens, -1)

    def means(self) -> torch.Tensor:
        """Return the mean over each text's tokens: (texts, width), at least single precision."""
        wide = torch.promote_types(self.states.dtype, torch.float32)
        return torch.cat([part.mean(dim=1, dtype=wide) for part in self.grouped()])

    def firsts(self) -> torch.Tensor:
        """Return the state of each text's first token: (texts, width)."""
        return torch.cat([part[:, 0] for part in self.grouped()])


class BertForward:
    """Computes the last hidden states of a `BertModel` for texts of any lengths."""

    def __init__(self, module: Any, device: torch.device) -> None:
        self._module = module
        self._device = device
        self._heads = module.config.num_attention_heads

    def __call__(self, texts: Sequence[Ids]) -> Packed:
        """Return the hidden states of `texts`; sorted by length they make the fewest groups."""
        groups = tuple((len(list(run)), length) for length, run in groupby(texts, key=len))
        ids = torch.tensor([token for ids in texts for token in ids], device=self._device)
        packed = Packed(self._embedded(ids, groups), groups)
        for layer in self._module.encoder.layer:
            packed = Packed(self._layer(layer, packed), groups)
        return packed

    def _embedded(self, ids: torch.Tensor, groups: tuple[tuple[int, int], ...]) -> torch.Tensor:
        part = self._module.embeddings
        # All that is read is one text: the first kind of token.
        states = part.word_embeddings(ids) + part.token_type_embeddings.weight[0]
        for texts in Packed(states, groups).grouped():
            texts += part.position_embeddings.weight[: texts.shape[1]]
        normed: torch.Tensor = part.LayerNorm(states)
        return normed

    def _layer(self, layer: Any, packed: Packed) -> torch.Tensor:
        before = layer.attention.output
        attended = before.dense(self._attended(layer.attention.self, packed))
        states = before.LayerNorm(attended.add_(packed.states))
        inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(states))
        after: torch.Tensor = layer.output.LayerNorm(layer.output.dense(inner).add_(states))
        return after

    def _attended(self, part: Any, packed: Packed) -> torch.Tensor:
        query, key, value = (
            map(self._by_head, Packed(project(packed.states), packed.groups).grouped())
            for project in (part.query, part.key, part.value)
        )
        parts = [
            scaled_dot_product_attention(q, k, v)
            .transpose(1, 2)
            .reshape(q.shape[0] * q.shape[2], -1)
            for q, k, v in zip(query, key, value, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _by_head(self, states: torch.Tensor) -> torch.Tensor:
        """Return (texts, heads, tokens, width of a head)."""
        texts, tokens, _ = states.shape
        return states.view(texts, tokens, self._heads, -1).transpose(1, 2)
