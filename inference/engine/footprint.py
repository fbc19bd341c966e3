"""How much memory a model takes: known from its manifest and config.json, before any is taken."""

from __future__ import annotations

from math import prod

from inference.engine import architecture
from inference.engine.kv_cache import bytes_per_token
from inference.engine.side_files import CONFIG, read_json
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.manifest import ModelManifest
from registry.verify import VerifiedModel


def weights_bytes(manifest: ModelManifest) -> int:
    """Return what the tensors of a manifest take, in bytes."""
    return sum(DTYPE_BYTES[entry.dtype] * prod(entry.shape) for entry in manifest.tensors)


def footprint(verified: VerifiedModel) -> int:
    """Return what a model takes once it is loaded: its weights, and the cache of a full context.

    In bytes. Raises `LoadRefusedError` when its config.json is not one of an allowed architecture.
    """
    manifest = verified.manifest
    weights = weights_bytes(manifest)
    if manifest.task != "chat":
        return weights
    raw = read_json(verified.files, CONFIG)
    config = architecture.read_config(raw, layers_at_most=len(manifest.tensors))
    per_token = bytes_per_token(config, DTYPE_BYTES.get(manifest.serving.dtype, 8))
    return weights + per_token * manifest.serving.max_context
