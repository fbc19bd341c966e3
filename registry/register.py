"""Story a: a training run is registered.

1. The dataset's folder is hashed into a dataset manifest.
2. The environment of the training is captured      (`registry.training.environment`)
3. The model is trained                             (`registry.training.run`)
4. Weights, configuration, tokenizer and template are hashed: every file a CID, every tensor a
   digest. What tokenizer and template make of fixed texts is kept as golden vectors.
5. The manifest is one canonical block; its digest is its name.
6. All blocks are put into the block store, and the manifest and the folder are read back.
7. The digest is recorded on chain, by the publisher directly, or signed by the publisher and sent
   by a relayer, so that a training machine needs no ether.
8. The same call twice gives the same record: what is recorded already is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from registry.adapter import ADAPTER, check_listing, has_adapter
from registry.adapter_folder import base_of, check_adapter
from registry.chain.block import TxReceipt
from registry.errors import (
    BlockCorruptError,
    RecordRevokedError,
    TransactionFailedError,
)
from registry.hashing.dataset import hash_folder
from registry.hashing.walk import walk
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import RAW, Cid
from registry.ipfs.unixfs import list_dir
from registry.manifest import (
    DatasetManifest,
    Manifest,
    ModelManifest,
    Parent,
    RunManifest,
    Serving,
)
from registry.model_folder import (
    architecture_of,
    golden_of,
    hash_tensors,
    read_config,
    serving_of,
)
from registry.policy import check_file_kind
from registry.record import Status, record_id
from registry.signing.signer import Signer

if TYPE_CHECKING:
    from registry.chain.model_registry import ModelRegistry

# How long a relayer may take to send what a publisher signed.
_RELAY_WINDOW_S: Final = 3600


@dataclass(frozen=True)
class Registration:
    """What registering gave: the record's id, its manifest, and the transaction.

    `receipt` is None where the record existed already.
    """

    id: bytes
    manifest: Manifest
    receipt: TxReceipt | None

    @property
    def cid(self) -> Cid:
        """The manifest's block."""
        return self.manifest.cid

    @property
    def gas_used(self) -> int:
        """Gas of the transaction, 0 where none was sent."""
        return self.receipt.gas_used if self.receipt else 0


def register_dataset(
    folder: Path,
    *,
    name: str,
    blocks: BlockStore,
    registry: ModelRegistry,
    signer: Signer,
    relayer: Signer | None = None,
    license: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Registration:
    """Register a folder as a dataset of `signer`'s; `progress` is called with bytes hashed.

    Raises `FileRefusedError`, `ManifestError`, `BlockError`, `RecordRevokedError` or `ChainError`.
    """
    # 1. Every file gets its CID; its blocks go into the store on the way (6).
    hashed = hash_folder(folder, sink=blocks, progress=progress)
    # 5.
    manifest = DatasetManifest(name, hashed.root, hashed.files, license)
    return _publish(manifest, hashed.root, blocks, registry, signer, relayer)


def register_run(
    manifest: RunManifest,
    *,
    blocks: BlockStore,
    registry: ModelRegistry,
    signer: Signer,
    relayer: Signer | None = None,
) -> Registration:
    """Register a finished training run; `TrainingRun.manifest` is its manifest (steps 2 and 3).

    Its datasets and base models must be recorded. Raises like `register_dataset`.
    """
    return _publish(manifest, None, blocks, registry, signer, relayer)


def register_model(
    folder: Path,
    *,
    name: str,
    task: str,
    parents: Sequence[Parent],
    blocks: BlockStore,
    registry: ModelRegistry,
    signer: Signer,
    relayer: Signer | None = None,
    metrics: Mapping[str, str] | None = None,
    serving: Serving | None = None,
    license: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Registration:
    """Register a folder, as transformers saves it, as a model of `signer`'s.

    `task` is chat, classify or embed; `parents` are the runs and models it came from; without
    `serving` its limits are taken from the model's own configuration. A folder as peft saves it is
    an adapter of the one model among its parents, whose limits it takes. Raises like
    `register_dataset`.
    """
    # 4. Files to CIDs, then tensors to digests, of the same bytes.
    for found in walk(folder, allow_hard_links=True):
        check_file_kind(found.path)
    hashed = hash_folder(folder, sink=blocks, progress=progress)
    tensors, headers = hash_tensors(folder, hashed.files)
    base = None
    if has_adapter(hashed.files):
        check_listing(hashed.files)
        base = base_of(parents, registry=registry, blocks=blocks)
        architecture, limits = ADAPTER, base.serving
    else:
        config = read_config(folder)
        architecture = architecture_of(config)
        limits = serving or serving_of(config, tensors, task)
    # 5.
    manifest = ModelManifest(
        name=name,
        task=task,
        architecture=architecture,
        root=hashed.root,
        files=hashed.files,
        tensors=tensors,
        parents=tuple(parents),
        metrics=metrics or {},
        serving=serving or limits,
        license=license,
        headers=headers,
        golden=None if base else golden_of(folder, hashed.files, task=task),
    )
    if base is not None:
        check_adapter(folder, manifest, base)
    return _publish(manifest, hashed.root, blocks, registry, signer, relayer)


def _publish(
    manifest: Manifest,
    root: Cid | None,
    blocks: BlockStore,
    registry: ModelRegistry,
    signer: Signer,
    relayer: Signer | None,
) -> Registration:
    # 6. What cannot be read back must not be recorded: nobody could ever verify it.
    cid = blocks.put(RAW, manifest.encode())
    if blocks.get(cid) != manifest.encode() or cid != manifest.cid:
        raise BlockCorruptError(f"the store gave back another manifest for {cid}", cid=str(cid))
    if root is not None:
        list_dir(blocks, root)
    # 7.
    receipt = _record(manifest, registry, signer, relayer)
    return Registration(record_id(signer.address, manifest.digest), manifest, receipt)


def _record(
    manifest: Manifest, registry: ModelRegistry, signer: Signer, relayer: Signer | None
) -> TxReceipt | None:
    # 8. Same manifest, same publisher: same id. The chain knows whether it is there.
    id = record_id(signer.address, manifest.digest)
    existing = registry.find(id)
    if existing is not None:
        if existing.status is Status.REVOKED:
            raise RecordRevokedError(
                f"0x{id.hex()} was registered and revoked, which is final",
                hint="change what was wrong and register the new version",
            )
        return None
    try:
        return _send(manifest, registry, signer, relayer)
    except TransactionFailedError as error:
        if error.error == "AlreadyRegistered":
            return None  # somebody else sent the same meanwhile
        raise


def _send(
    manifest: Manifest, registry: ModelRegistry, signer: Signer, relayer: Signer | None
) -> TxReceipt:
    kind, digest, parents = manifest.kind, manifest.digest, manifest.parent_ids
    if relayer is None:
        return registry.register(signer, kind, digest, parents)
    deadline = registry.chain.head().timestamp + _RELAY_WINDOW_S
    signature = registry.sign_registration(signer, kind, digest, parents, deadline)
    return registry.register_for(
        relayer, signer.address, kind, digest, parents, deadline, signature
    )
