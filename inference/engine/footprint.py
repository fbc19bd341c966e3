"""How much memory a model takes: known from its manifest and config.json, before any is taken."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from inference.engine import architecture
from inference.engine.kv_cache import bytes_per_token
from inference.engine.side_files import CONFIG, read_json
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.manifest_parts import TensorEntry
from registry.verify import VerifiedModel


def tensors_bytes(entries: Iterable[TensorEntry]) -> int:
    """Return what tensors take, in bytes."""
    return sum(DTYPE_BYTES[entry.dtype] * prod(entry.shape) for entry in entries)


def footprint(verified: VerifiedModel) -> int:
    """Return what a model takes once it is loaded: its weights, and the cache of a full context.

    In bytes; of an adapter, with its base, which it holds by itself. Raises `LoadRefusedError` when
    config.json is not one of an allowed architecture.
    """
    manifest, entries = verified.manifest, verified.tensors
    weights = tensors_bytes(entries)
    if manifest.task != "chat":
        return weights
    raw = read_json((verified.base or verified).files, CONFIG)
    config = architecture.read_config(raw, layers_at_most=len(entries))
    per_token = bytes_per_token(config, DTYPE_BYTES[manifest.serving.dtype])
    return weights + per_token * manifest.serving.max_context
