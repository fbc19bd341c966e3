"""The forward pass by transformers' own modules, with our cache plugged into their attention.

All spans of a step are one row of tokens; only attention looks at sequences apart. It writes keys
and values into blocks and reads each sequence's own.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AttentionInterface, PreTrainedModel

from inference.engine.forward import NextLogits, Span
from inference.engine.kv_cache import BLOCK
from inference.engine.packing import groups, head_width
from inference.errors import GenerationError

ATTENTION: Final = "weightproof"


@dataclass(frozen=True)
class _Cache:
    """Keys and values, each (layers, blocks, heads, 16, width)."""

    keys: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class _Reading:
    """Where the spans of a pass lie.

    `blocks` and `slots` (tokens) say where each new token's keys go. `tables` are each span's own
    blocks, `bounds` its rows, `starts` its first position.
    """

    cache: _Cache
    blocks: torch.Tensor
    slots: torch.Tensor
    tables: list[torch.Tensor]
    bounds: list[tuple[int, int]]
    starts: list[int]


class ModuleForward:
    """Computes with a module where its tensors lie, on any device, in the module's own dtype.

    Rounding depends on how many rows are computed together, so exact sequences compute alone.
    """

    name = "modules"
    is_invariant = False

    def __init__(self, module: PreTrainedModel, device: torch.device, *, blocks: int) -> None:
        self._module = module
        self._device = device
        module.config._attn_implementation = ATTENTION
        config = module.config
        shape = (config.num_hidden_layers, blocks, groups(config), BLOCK, head_width(config))
        dtype = next(module.parameters()).dtype
        self._cache = _Cache(
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(shape, dtype=dtype, device=device),
        )

    def run(self, spans: Many[Span]) -> list[NextLogits | None]:
        """Compute spans together, exact ones each alone; see `Forward`."""
        together = [span for span in spans if not span.sequence.request.exact]
        found: dict[int, NextLogits | None] = {}
        for batch in (together, *([s] for s in spans if s.sequence.request.exact)):
            if batch:
                found |= zip(map(id, batch), self._pass(batch), strict=True)
        return [found[id(span)] for span in spans]

    def close(self) -> None:
        """Let go of the cache, whoever still refers to this object."""
        self._cache = _Cache(self._cache.keys.new_empty(0), self._cache.values.new_empty(0))

    def _pass(self, spans: Many[Span]) -> list[NextLogits | None]:
        try:
            with torch.inference_mode():
                return self._compute(spans)
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for all of its own
            raise GenerationError(f"the forward pass failed: {error!s:.200}") from error

    def _compute(self, spans: Many[Span]) -> list[NextLogits | None]:
        tokens = [token for span in spans for token in span.tokens]
        positions = [p for span in spans for p in range(span.start, span.start + span.count)]
        ends = torch.tensor([span.count for span in spans]).cumsum(0)
        wanted = [end - 1 for end, s in zip(ends.tolist(), spans, strict=True) if s.is_last]
        output = self._module(
            input_ids=self._numbers([tokens]),
            position_ids=self._numbers([positions]),
            use_cache=False,
            logits_to_keep=self._numbers(wanted),
            reading=self._reading(spans),
        )
        logits = iter(output.logits[0].float().cpu().numpy() if wanted else ())
        return [NextLogits(next(logits)) if span.is_last else None for span in spans]

    def _reading(self, spans: Many[Span]) -> _Reading:
        blocks, slots, bounds, row = [], [], [], 0
        for span in spans:
            for position in range(span.start, span.start + span.count):
                blocks.append(span.sequence.blocks[position // BLOCK])
                slots.append(position % BLOCK)
            bounds.append((row, row + span.count))
            row += span.count
        return _Reading(
            cache=self._cache,
            blocks=self._numbers(blocks),
            slots=self._numbers(slots),
            tables=[self._numbers(_read_by(span)) for span in spans],
            bounds=bounds,
            starts=[span.start for span in spans],
        )

    def _numbers(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _read_by(span: Span) -> list[int]:
    """Return the blocks a span attends to."""
    return span.sequence.blocks[: (span.start + span.count - 1) // BLOCK + 1]


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    reading: _Reading,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention interface asks: (1, heads, tokens, width) each."""
    layer: int = module.layer_idx  # type: ignore[assignment]  # every attention of theirs has it
    keys, values = reading.cache.keys[layer], reading.cache.values[layer]
    keys[reading.blocks, :, reading.slots] = key[0].transpose(0, 1)
    values[reading.blocks, :, reading.slots] = value[0].transpose(0, 1)
    out = torch.empty_like(query[0])
    for (first, last), table, start in zip(
        reading.bounds, reading.tables, reading.starts, strict=True
    ):
        seen = start + last - first
        mask = None
        if last - first > 1:
            columns = torch.arange(seen, device=query.device)
            mask = columns <= columns[start:, None]
        out[:, first:last] = torch.nn.functional.scaled_dot_product_attention(
            query[:, :, first:last],
            _gathered(keys, table, seen),
            _gathered(values, table, seen),
            attn_mask=mask,
            scale=scaling,
            enable_gqa=keys.shape[1] != query.shape[1],
        )[0]
    return out.transpose(0, 1)[None], None


def _gathered(states: torch.Tensor, table: torch.Tensor, count: int) -> torch.Tensor:
    """Return the first `count` tokens of a sequence: (1, heads, count, width)."""
    found = states[table].transpose(0, 1).flatten(1, 2)
    return found[None, :, :count]


AttentionInterface.register(ATTENTION, _attention)
