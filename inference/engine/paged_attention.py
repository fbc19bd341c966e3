"""Attention of one new token a sequence over blocks of the cache, on a GPU, in one launch.

Only `inference.engine.decode_pass` imports this, and only on a GPU: a node without one never loads
Triton.

Why one program for each sequence and head of keys: the query heads that share keys read them once,
as rows of one matrix product. Sixteen rows are what the matrix units take, so fewer are filled up.
Scores are made, weighed and forgotten tile by tile (the running maximum and sum of FlashAttention,
arXiv:2205.14135), so nothing as long as the sequence is kept; blocks are found through the
sequence's table (PagedAttention, arXiv:2309.06180), so nothing is gathered.
"""

from __future__ import annotations

from typing import Final

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from inference.engine.kv_cache import BLOCK

# Tokens looked at in one go: four blocks fill a matrix product.
TILE: Final = 64
# Rows of a matrix product.
_ROWS: Final = 16


@triton.jit  # type: ignore[untyped-decorator]  # Triton has no type information
def _attend(
    query: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    tables: tl.tensor,
    lengths: tl.tensor,
    out: tl.tensor,
    scale: tl.tensor,
    sharing: tl.tensor,
    width: tl.tensor,
    query_head: tl.tensor,
    query_row: tl.tensor,
    cache_block: tl.tensor,
    cache_head: tl.tensor,
    cache_slot: tl.tensor,
    table_row: tl.tensor,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Attend for one sequence and the `sharing` query heads of one head of keys."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    length = tl.load(lengths + sequence)
    row, column = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    asked = (row < sharing)[:, None] & (column < width)[None, :]
    place = (head * sharing + row)[:, None] * query_head + sequence * query_row + column[None, :]
    q = tl.load(query + place, mask=asked, other=0.0)
    highest = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    mixed = tl.zeros([ROWS, WIDTH], dtype=tl.float32)
    for start in range(0, length, TILE):
        token = start + tl.arange(0, TILE)
        # What lies beyond is somebody else's: it is not read, for NaN would get through a product.
        live = token < length
        block = tl.load(tables + sequence * table_row + token // BLOCK, mask=live, other=0)
        at = block * cache_block + head * cache_head + (token % BLOCK) * cache_slot
        read = live[:, None] & (column < width)[None, :]
        k = tl.load(keys + at[:, None] + column[None, :], mask=read, other=0.0)
        v = tl.load(values + at[:, None] + column[None, :], mask=read, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(live[None, :], scores, float("-inf"))
        now = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - now[:, None])
        fade = tl.exp(highest - now)
        total = total * fade + tl.sum(weights, 1)
        mixed = mixed * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        highest = now
    tl.store(out + place, (mixed / total[:, None]).to(q.dtype), mask=asked)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    lengths: torch.Tensor,
    *,
    scale: float,
) -> torch.Tensor:
    """Return the attention of one token of each sequence: (heads, sequences, width), as `query`.

    `keys` and `values` are (blocks, heads of keys, 16, width); sequence s reads the first
    `lengths[s]` (at least 1) tokens of the blocks `tables[s]`. Numbers in `tables` and `lengths`
    are int64.
    """
    heads, sequences, width = query.shape
    groups = keys.shape[1]
    query = query.contiguous()
    out = torch.empty_like(query)
    _attend[(sequences, groups)](
        query,
        keys,
        values,
        tables,
        lengths,
        out,
        scale,
        heads // groups,
        width,
        query.stride(0),
        query.stride(1),
        keys.stride(0),
        keys.stride(1),
        keys.stride(2),
        tables.stride(0),
        ROWS=max(_ROWS, triton.next_power_of_2(heads // groups)),
        WIDTH=max(_ROWS, triton.next_power_of_2(width)),
        TILE=TILE,
        BLOCK=BLOCK,
    )
    return out
