"""The forward pass by transformers' own modules, with our cache plugged into their attention.

All spans of a step are one row of tokens; only attention looks at sequences apart. It writes keys
and values into blocks and reads each sequence's own. On a GPU, a step in which every sequence has
one token is a `decode_pass`.
"""

from __future__ import annotations

from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import AttentionInterface, PreTrainedModel

from inference.engine.decode_pass import Attend, DecodePasses, Decoding, gpu_attention
from inference.engine.forward import NextLogits, Span
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.packing import groups, head_width
from inference.errors import GenerationError

ATTENTION: Final = "weightproof"


@dataclass(frozen=True)
class _Cache:
    """Keys and values, each (layers, blocks, heads, 16, width)."""

    keys: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class _Group:
    """Spans that attention looks at in one go: several of one token each, or one of many.

    Span i has the rows `rows[i]` (spans, tokens) and reads the blocks `tables[i]`; `mask`, of shape
    (spans, 1, tokens, seen), says which of the tokens read it may look at.
    """

    rows: torch.Tensor
    tables: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class _Reading:
    """Where the keys of a pass's new tokens go, block and slot, and who looks at what.

    The blocks `fresh` are written for the first time.
    """

    cache: _Cache
    fresh: torch.Tensor
    blocks: torch.Tensor
    slots: torch.Tensor
    groups: list[_Group]


class ModuleForward:
    """Computes with a module where its tensors lie, on any device, in the module's own dtype.

    Rounding depends on how many rows are computed together, so exact sequences compute alone.
    """

    name = "modules"
    is_invariant = False

    def __init__(
        self,
        module: PreTrainedModel,
        device: torch.device,
        *,
        blocks: int,
        context: int,
        attend: Attend | None = None,
    ) -> None:
        """`context` is the most tokens of a sequence.

        With `attend`, which a GPU always has, steps of one token a sequence are decode passes.
        """
        self._module = module
        self._device = device
        module.config._attn_implementation = ATTENTION
        config = module.config
        # One block more than sequences have: what a decode pass does not need goes there.
        shape = (config.num_hidden_layers, blocks + 1, groups(config), BLOCK, head_width(config))
        dtype = next(module.parameters()).dtype
        self._cache = _Cache(
            torch.zeros(shape, dtype=dtype, device=device),
            torch.zeros(shape, dtype=dtype, device=device),
        )
        attend = gpu_attention() if attend is None and device.type == "cuda" else attend
        self._decode: DecodePasses | None = None
        if attend is not None:
            self._decode = DecodePasses(
                module,
                self._cache.keys,
                self._cache.values,
                width=blocks_for(context),
                attend=attend,
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
        self._decode = None
        self._cache = _Cache(self._cache.keys.new_empty(0), self._cache.values.new_empty(0))

    def _pass(self, spans: Many[Span]) -> list[NextLogits | None]:
        try:
            with torch.inference_mode():
                return self._compute(spans)
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for all of its own
            raise GenerationError(f"the forward pass failed: {error!s:.200}") from error

    def _compute(self, spans: Many[Span]) -> list[NextLogits | None]:
        if self._decode is not None and all(span.count == 1 for span in spans):
            rows = self._decode.run(spans).numpy()
            return [
                NextLogits(row) if s.is_last else None for s, row in zip(spans, rows, strict=True)
            ]
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
        blocks, slots, row = [], [], 0
        short, groups = [], []
        for span in spans:
            for position in range(span.start, span.start + span.count):
                blocks.append(span.sequence.blocks[position // BLOCK])
                slots.append(position % BLOCK)
            if span.count == 1:
                short.append((span, row))
            else:
                groups.append(self._group([(span, row)]))
            row += span.count
        if short:
            groups.append(self._group(short))
        fresh = [block for block, slot in zip(blocks, slots, strict=True) if slot == 0]
        return _Reading(
            self._cache,
            fresh=self._numbers(fresh),
            blocks=self._numbers(blocks),
            slots=self._numbers(slots),
            groups=groups,
        )

    def _group(self, members: list[tuple[Span, int]]) -> _Group:
        """Return spans of the same length, with the rows they begin at, as one group."""
        count = members[0][0].count
        starts = self._numbers([span.start for span, _ in members])
        written = [(span.start + count - 1) // BLOCK + 1 for span, _ in members]
        width = max(written)
        # A shorter one reads its first block again, and the mask takes that out: what others have
        # or had, also in blocks it has not come to, must not be read, for NaN gets through a mask.
        tables = [
            (span.sequence.blocks[:own] + span.sequence.blocks[:1] * width)[:width]
            for (span, _), own in zip(members, written, strict=True)
        ]
        steps = torch.arange(count, device=self._device)
        seen = torch.arange(width * BLOCK, device=self._device)
        return _Group(
            rows=self._numbers([row for _, row in members])[:, None] + steps,
            tables=self._numbers(tables),
            mask=(seen <= (starts[:, None] + steps)[:, :, None])[:, None],
        )

    def _numbers(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    *,
    reading: _Reading | Decoding,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attend as transformers' attention interface asks: (1, heads, tokens, width) each."""
    layer: int = module.layer_idx  # type: ignore[assignment]  # every attention of theirs has it
    if isinstance(reading, Decoding):
        found = reading.attention(layer, query[0], key[0], value[0], scaling)
        return found.transpose(0, 1)[None], None
    keys, values = reading.cache.keys[layer], reading.cache.values[layer]
    # What an earlier sequence left, NaN for example, would get through the mask too.
    keys[reading.fresh], values[reading.fresh] = 0, 0
    keys[reading.blocks, :, reading.slots] = key[0].transpose(0, 1)
    values[reading.blocks, :, reading.slots] = value[0].transpose(0, 1)
    out = torch.empty_like(query[0])
    for group in reading.groups:
        found = torch.nn.functional.scaled_dot_product_attention(
            query[0][:, group.rows].transpose(0, 1),
            _gathered(keys, group.tables),
            _gathered(values, group.tables),
            attn_mask=group.mask,
            scale=scaling,
            enable_gqa=keys.shape[1] != query.shape[1],
        )
        out[:, group.rows] = found.transpose(0, 1)
    return out.transpose(0, 1)[None], None


def _gathered(states: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Return the tokens of spans' blocks: (spans, heads, tokens, width)."""
    return states[tables].transpose(1, 2).flatten(2, 3)


AttentionInterface.register(ATTENTION, _attention)
