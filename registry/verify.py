"""Story b: a model is verified.

 1. The record exists at a stated block that is recent enough, and is active.
 2. The manifest's bytes re-hash to the recorded digest, are canonical and of a known version.
 3. The ModelId is recomputed from publisher and digest; chain and manifest name the same parents.
 4. Attestations are recovered: each id is the hash of its fields; those of known attesters count.
 5. Policy: the publisher is trusted, enough attesters vouch, nothing in the lineage is revoked.
 6. Every listed file is present, nothing is extra, all is within limits. Small files are copied as
    they are hashed to their CIDs, and only the copies are handed on; weight files are opened and
    their headers proven, so that step 7 reads each byte of weights once and hashes it in its place.

An adapter is verified so, and so is its base, which the chain names as its parent, at the same
block; its files are judged before, its tensors after that.

The result is a `VerifiedModel`, which nobody else can make. Steps 7 and 8 are the loader's and the
watcher's. Rules are pure; chain, blocks, folder and clock are handed in. A refusal names its step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import InitVar, dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final

from registry.adapter import (
    base_id,
    check_fit,
    check_host,
    check_listing,
    is_adapter,
    resident_entries,
)
from registry.adapter_config import PATH as ADAPTER_CONFIG
from registry.adapter_config import read_config
from registry.attestation import Attestation
from registry.chain.block import Block
from registry.chain_facts import AttestationSource, ChainFacts, prefixed, step
from registry.errors import ChainMismatchError, ManifestError
from registry.hashing.sealed import SealedFile
from registry.hashing.weight_file import WeightFile
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import RAW, Cid
from registry.lineage import RecordSource
from registry.manifest import Manifest, ModelManifest, parse_manifest
from registry.manifest_parts import TensorEntry
from registry.model_files import ModelFiles
from registry.policy import Policy, check_files
from registry.record import Record, record_id

_PROOF: Final = object()


@dataclass(frozen=True, eq=False)
class VerifiedModel:
    """A model whose every byte was checked. Only `verify_model` makes one.

    `files` maps paths to sealed copies of what was hashed, `weights` those of weight files to the
    opened files, whose layout is proven: the loader hashes their tensors where it puts them. Both
    are empty where nothing was kept; every byte was hashed then.
    `attestations` are those that counted; `block` is where the chain was read. `base` is the model
    that an adapter changes, verified at the same block by the same policy.
    """

    model_id: bytes
    chain_id: int
    registry_address: str
    record: Record
    manifest: ModelManifest
    manifest_digest: bytes
    block: Block
    attestations: tuple[Attestation, ...]
    files: Mapping[str, SealedFile]
    weights: Mapping[str, WeightFile]
    base: VerifiedModel | None = None
    proof: InitVar[object] = None

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedModel comes from verify_model and from nowhere else")

    @property
    def tensors(self) -> tuple[TensorEntry, ...]:
        """Everything that lies in memory once the model is loaded, by its names there."""
        return resident_entries(self.manifest, self.base.manifest if self.base else None)

    def close(self) -> None:
        """Give the files' memory back, and close what is open. May be called twice."""
        if self.base is not None:
            self.base.close()
        for sealed in self.files.values():
            sealed.close()
        for weights in self.weights.values():
            weights.close()

    def __enter__(self) -> VerifiedModel:
        """Hand out the model."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def verify_model(
    model_id: bytes,
    *,
    registry: RecordSource,
    attestations: AttestationSource,
    blocks: BlockStore,
    policy: Policy,
    block: Block,
    now: int,
    folder: Path | None = None,
    base_folder: Path | None = None,
    progress: Callable[[int], None] | None = None,
    keep_files: bool = True,
) -> VerifiedModel:
    """Verify a model, its files taken from `folder` or else from `blocks`.

    `block` is the final block all chain facts are read at, `now` the time in Unix seconds;
    `progress` is called with bytes read. The base of an adapter is verified in the same way, its
    files taken from `base_folder` or else from `blocks`. With `keep_files` false nothing is kept
    for a loader: then all files are hashed to their CIDs here, and all tensors. Raises a
    `RecordError`, `BlockError`, `CanonicalError`, `ManifestError`, `PolicyError`,
    `FileRefusedError` or `ChainError` that names the step.
    """
    chain = ChainFacts(registry, attestations, policy, block, now)
    return _Verifying(chain, blocks, progress, keep_files).model(model_id, folder, base_folder)


def check_standing(
    verified: VerifiedModel,
    *,
    registry: RecordSource,
    attestations: AttestationSource,
    policy: Policy,
    block: Block,
    now: int,
) -> tuple[Attestation, ...]:
    """Ask again, for a model in use, what can change: steps 1, 4 and 5 at a newer block.

    Returns the attestations that count now, those of an adapter's base among them. Raises what
    `verify_model` raises, `RecordRevokedError` above all.
    """
    chain = ChainFacts(registry, attestations, policy, block, now)
    counting = _stand(chain, verified)
    if verified.base is None:
        return counting
    with prefixed(_of_base(verified.base.model_id)):
        return counting + _stand(chain, verified.base)


@dataclass(frozen=True)
class _Verifying:
    """The steps, for a model and for the base of one."""

    chain: ChainFacts
    blocks: BlockStore
    progress: Callable[[int], None] | None
    keep_files: bool

    def model(
        self,
        model_id: bytes,
        folder: Path | None,
        base_folder: Path | None = None,
        *,
        as_base: bool = False,
    ) -> VerifiedModel:
        """Verify a model, and its base where it is an adapter; `as_base` allows no adapter."""
        record = self.chain.active(model_id)  # 1
        with step(2, "manifest"):
            manifest = fetch_manifest(self.blocks, record)
        with step(3, "identity"):
            model = _check_identity(model_id, record, manifest)
            if as_base:
                check_host(model)
        counting = self.chain.counting(model_id)  # 4
        self.chain.check_policy(record, model, counting)  # 5
        with ExitStack() as undo:
            with step(6, "files"):
                check_files(self.chain.policy, model.files)
                source = ModelFiles(model, self.blocks, folder, self.progress)
            base = self._base(source, base_folder) if is_adapter(model) else None
            if base is not None:
                undo.callback(base.close)
            with step(6, "files"):
                files, weights = _take(source, keep=self.keep_files)
            undo.pop_all()
        return VerifiedModel(
            model_id=model_id,
            chain_id=self.chain.registry.chain_id,
            registry_address=self.chain.registry.address,
            record=record,
            manifest=model,
            manifest_digest=record.manifest_digest,
            block=self.chain.block,
            attestations=counting,
            files=MappingProxyType(files),
            weights=MappingProxyType(weights),
            base=base,
            proof=_PROOF,
        )

    def _base(self, adapter: ModelFiles, folder: Path | None) -> VerifiedModel:
        """Verify the base of an adapter, and that the adapter is one for it."""
        with step(6, "files"):
            model_id = base_id(adapter.manifest.parents)
            check_listing(adapter.manifest.files)
            config = read_config(adapter.read(ADAPTER_CONFIG))
        with prefixed(_of_base(model_id)):
            base = self.model(model_id, folder, as_base=True)
        with ExitStack() as undo, step(6, "files"):
            undo.callback(base.close)
            check_fit(config, adapter.manifest, base.manifest)
            undo.pop_all()
        return base


def _stand(chain: ChainFacts, verified: VerifiedModel) -> tuple[Attestation, ...]:
    record = chain.active(verified.model_id)
    counting = chain.counting(verified.model_id)
    chain.check_policy(record, verified.manifest, counting)
    return counting


def _of_base(model_id: bytes) -> str:
    return f"base 0x{model_id.hex()}"


def fetch_manifest(blocks: BlockStore, record: Record) -> Manifest:
    """Return the manifest of any record. Raises `BlockError`, `CanonicalError`, `ManifestError`."""
    cid = Cid(RAW, record.manifest_digest)
    manifest = parse_manifest(blocks.get(cid))
    if manifest.digest != record.manifest_digest:
        raise ManifestError(f"the manifest is {manifest.cid}, the chain records {cid}")
    if manifest.kind is not record.kind:
        raise ManifestError(
            f"the chain records a {record.kind.word}, the manifest is of a {manifest.kind.word}"
        )
    return manifest


def _check_identity(model_id: bytes, record: Record, manifest: Manifest) -> ModelManifest:
    found = record_id(record.publisher, record.manifest_digest)
    if found != model_id:
        raise ChainMismatchError(
            f"the record's publisher and digest make the id 0x{found.hex()}, "
            f"not 0x{model_id.hex()}",
            hint="the RPC endpoint or the contract cannot be trusted",
        )
    if not isinstance(manifest, ModelManifest):
        raise ManifestError(f"the manifest is of a {manifest.kind.word}, not of a model")
    if set(manifest.parent_ids) != set(record.parents):
        raise ManifestError("the manifest and the chain name different parents")
    return manifest


def _take(source: ModelFiles, *, keep: bool) -> tuple[dict[str, SealedFile], dict[str, WeightFile]]:
    if keep:
        return source.take()
    source.check()
    return {}, {}
