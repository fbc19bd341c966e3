"""A dataset's folder, checked against its record before anything is trained on it.

 1. The record exists at a stated block, is of a dataset, and is active.
 2. The manifest's bytes re-hash to the recorded digest and are canonical.
 3. The id is recomputed from publisher and digest.
 4. The folder holds exactly the listed files, each with its CID.

A dataset is its bytes and the names of its files: no row is parsed, sorted or re-encoded, so that
any change of order, encoding or line ends, and any row more or less, is another dataset. The check
is of the moment: train on a folder that nobody else can write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from registry.chain.block import BlockRef
from registry.chain_facts import step
from registry.errors import (
    ChainMismatchError,
    FileRefusedError,
    ManifestError,
    RecordError,
    RecordRevokedError,
)
from registry.hashing.dataset import hash_folder
from registry.ipfs.blockstore import BlockStore
from registry.lineage import RecordSource
from registry.manifest import DatasetManifest
from registry.model_files import check_folder
from registry.record import Kind, Record, Status, record_id
from registry.verify import fetch_manifest


def verify_dataset(
    dataset_id: bytes,
    *,
    registry: RecordSource,
    blocks: BlockStore,
    block: BlockRef,
    folder: Path,
    progress: Callable[[int], None] | None = None,
) -> DatasetManifest:
    """Verify that `folder` holds the dataset of a record; return its manifest.

    `block` is where the chain is read; `progress` is called with bytes hashed. Raises a
    `RecordError`, `BlockError`, `CanonicalError`, `ManifestError`, `FileRefusedError` or
    `ChainError` that names the step.
    """
    with step(1, "record"):
        record = registry.record(dataset_id, block=block)
        _check_active(record)
    with step(2, "manifest"):
        manifest = fetch_manifest(blocks, record)
        if not isinstance(manifest, DatasetManifest):
            raise ManifestError(f"the manifest is of a {manifest.kind.word}, not of a dataset")
    with step(3, "identity"):
        found = record_id(record.publisher, record.manifest_digest)
        if found != dataset_id:
            raise ChainMismatchError(
                f"the record's publisher and digest make the id 0x{found.hex()}, "
                f"not 0x{dataset_id.hex()}",
                hint="the RPC endpoint or the contract cannot be trusted",
            )
    with step(4, "files"):
        check_folder(folder, manifest.files)
        _check_bytes(folder, manifest, progress)
    return manifest


def _check_active(record: Record) -> None:
    if record.kind is not Kind.DATASET:
        raise RecordError(
            f"0x{record.id.hex()} is a {record.kind.word}, not a dataset",
            hint="give the id that registering the dataset printed",
        )
    if record.status is not Status.ACTIVE:
        raise RecordRevokedError(
            f"dataset 0x{record.id.hex()} was revoked by its publisher at {record.revoked_at}",
            hint="ask the publisher for its successor",
        )


def _check_bytes(
    folder: Path, manifest: DatasetManifest, progress: Callable[[int], None] | None
) -> None:
    hashed = hash_folder(folder, progress=progress, allow_hard_links=False)
    promised = {file.path: file for file in manifest.files}
    for file in hashed.files:
        listed = promised.pop(file.path, None)
        if listed is None:
            raise FileRefusedError(file.path, "is not in the manifest")
        if file.cid != listed.cid:
            raise FileRefusedError(file.path, f"has the CID {file.cid}, not {listed.cid}")
    for path in sorted(promised):
        raise FileRefusedError(path, "is missing")
