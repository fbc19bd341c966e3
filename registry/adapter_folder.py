"""An adapter's folder as peft writes it, and the base that its parents name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry.adapter import base_id, check_fit, check_host
from registry.adapter_config import PATH, read_config
from registry.errors import ManifestError
from registry.hashing.sealed import SealedFile
from registry.hashing.walk import read_beneath
from registry.ipfs.blockstore import BlockStore
from registry.manifest import ModelManifest, Parent
from registry.verify import fetch_manifest

if TYPE_CHECKING:
    from registry.chain.model_registry import ModelRegistry


def base_of(
    parents: Sequence[Parent], *, registry: ModelRegistry, blocks: BlockStore
) -> ModelManifest:
    """Return the manifest of the one model among an adapter's parents.

    Raises `ManifestError` unless there is exactly one and it takes adapters, `RecordUnknownError`,
    and what the block store raises.
    """
    id = base_id(parents)
    base = fetch_manifest(blocks, registry.record(id))
    if not isinstance(base, ModelManifest):
        raise ManifestError(f"the base 0x{id.hex()} is a {base.kind.word}, not a model")
    check_host(base)
    return base


def check_adapter(folder: Path, manifest: ModelManifest, base: ModelManifest) -> None:
    """Refuse at registration what no loader would take. Raises like `registry.adapter`."""
    (listed,) = (file for file in manifest.files if file.path == PATH)
    sealed = SealedFile.copy(read_beneath(folder, PATH), listed.cid, listed.size, PATH)
    try:
        check_fit(read_config(sealed.bytes()), manifest, base)
    finally:
        sealed.close()
