"""The GPU's attention under Triton's interpreter, in a process of its own.

`interpreted_hash` says why.
"""

from __future__ import annotations

import os

import torch


def prepare() -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    lengths: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    # Not before Triton was told to interpret.
    from inference.engine import paged_attention

    return paged_attention.attend(query, keys, values, tables, lengths, scale=scale)
