"""How much memory a model takes: known from its manifest and config.json, before any is taken."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch

from inference.engine import architecture
from inference.engine.compute_plan import plan
from inference.engine.dtypes import DTYPES
from inference.engine.side_files import CONFIG, read_json
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.manifest_parts import TensorEntry
from registry.verify import VerifiedModel


def tensors_bytes(entries: Iterable[TensorEntry]) -> int:
    """Return what tensors take, in bytes."""
    return sum(DTYPE_BYTES[entry.dtype] * prod(entry.shape) for entry in entries)


def footprint(verified: VerifiedModel, device: torch.device) -> int:
    """Return what a model takes once it is loaded: its weights, packed copy and cache, in bytes.

    Of an adapter, with its base, which it holds by itself. Raises `LoadRefusedError` when
    config.json is not one of an allowed architecture.
    """
    manifest, entries = verified.manifest, verified.tensors
    weights = tensors_bytes(entries)
    dtype = manifest.serving.dtype
    if manifest.task != "chat" or dtype not in DTYPES:
        return weights
    raw = read_json((verified.base or verified).files, CONFIG)
    how = plan(
        architecture.read_config(raw, layers_at_most=len(entries)),
        dtype=DTYPES[dtype],
        device=device,
        context=manifest.serving.max_context,
        adapted=verified.base is not None,
    )
    return weights + how.nbytes
