"""Story b: a model is verified.

 1. The record exists at a stated block that is recent enough, and is active.
 2. The manifest's bytes re-hash to the recorded digest, are canonical and of a known version.
 3. The ModelId is recomputed from publisher and digest; chain and manifest name the same parents.
 4. Attestations are recovered: each id is the hash of its fields; those of known attesters count.
 5. Policy: the publisher is trusted, enough attesters vouch, nothing in the lineage is revoked.
 6. Every listed file is present with its CID, nothing is extra, all is within limits; what is
    read is copied as it is hashed, and only that copy is handed on.

The result is a `VerifiedModel`, which nobody else can make. Steps 7 and 8 are the loader's and the
watcher's. Rules are pure; chain, blocks, folder and clock are handed in. A refusal names its step.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Protocol

from registry.attestation import Attestation
from registry.chain.block import Block, BlockRef
from registry.errors import (
    ChainMismatchError,
    ManifestError,
    RecordError,
    RecordRevokedError,
    WeightproofError,
)
from registry.hashing.sealed import SealedFile
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import RAW, Cid
from registry.lineage import RecordSource, ancestors
from registry.manifest import Manifest, ModelManifest, parse_manifest
from registry.model_files import seal_files
from registry.policy import (
    Policy,
    check_ancestor,
    check_attestations,
    check_files,
    check_freshness,
    check_publisher,
    counted,
)
from registry.record import Kind, Record, Status, record_id

_PROOF: Final = object()


class AttestationSource(Protocol):
    """Whatever can answer for attestations: the Attestations contract."""

    def attestations_of(
        self,
        model_id: bytes,
        *,
        block: BlockRef | None = None,
        attesters: Collection[str] | None = None,
    ) -> tuple[Attestation, ...]:
        """Return a model's attestations, each checked against its id; by `attesters` if given."""


@dataclass(frozen=True, eq=False)
class VerifiedModel:
    """A model whose every byte was checked. Only `verify_model` makes one.

    `files` maps paths to sealed copies of what was hashed; it is empty where they were not kept.
    `attestations` are those that counted; `block` is where the chain was read.
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
    proof: InitVar[object] = None

    def __post_init__(self, proof: object) -> None:
        if proof is not _PROOF:
            raise TypeError("a VerifiedModel comes from verify_model and from nowhere else")

    def close(self) -> None:
        """Give the files' memory back."""
        for file in self.files.values():
            file.close()

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
    progress: Callable[[int], None] | None = None,
    keep_files: bool = True,
) -> VerifiedModel:
    """Verify a model, its files taken from `folder` or else from `blocks`.

    `block` is the final block all chain facts are read at, `now` the time in Unix seconds;
    `progress` is called with bytes read. Raises a `RecordError`, `BlockError`, `CanonicalError`,
    `ManifestError`, `PolicyError`, `FileRefusedError` or `ChainError` that names the step.
    """
    with _step(1, "record"):
        check_freshness(policy, block.timestamp, now)
        record = registry.record(model_id, block=block)
        _check_active(record)
    with _step(2, "manifest"):
        manifest = fetch_manifest(blocks, record)
    with _step(3, "identity"):
        model = _check_identity(model_id, record, manifest)
    with _step(4, "attestations"):
        counting = _recover(model_id, attestations, policy, block, now)
    with _step(5, "policy"):
        check_publisher(policy, record)
        check_attestations(policy, counting)
        _check_lineage(registry, policy, record, block, model)
    with _step(6, "files"):
        check_files(policy, model.files)
        files = seal_files(
            model.files, folder=folder, blocks=blocks, keep=keep_files, progress=progress
        )
    return VerifiedModel(
        model_id=model_id,
        chain_id=registry.chain_id,
        registry_address=registry.address,
        record=record,
        manifest=model,
        manifest_digest=record.manifest_digest,
        block=block,
        attestations=counting,
        files=MappingProxyType(files),
        proof=_PROOF,
    )


def check_standing(
    verified: VerifiedModel,
    *,
    registry: RecordSource,
    attestations: AttestationSource,
    policy: Policy,
    block: Block,
    now: int,
) -> None:
    """Ask again, for a model in use, what can change: steps 1, 4 and 5 at a newer block.

    Raises what `verify_model` raises, `RecordRevokedError` above all.
    """
    with _step(1, "record"):
        check_freshness(policy, block.timestamp, now)
        record = registry.record(verified.model_id, block=block)
        _check_active(record)
    with _step(4, "attestations"):
        counting = _recover(verified.model_id, attestations, policy, block, now)
    with _step(5, "policy"):
        check_publisher(policy, record)
        check_attestations(policy, counting)
        _check_lineage(registry, policy, record, block, verified.manifest)


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


def _check_active(record: Record) -> None:
    if record.kind is not Kind.MODEL:
        raise RecordError(
            f"0x{record.id.hex()} is a {record.kind.word}, not a model",
            hint="give the id that registering the model printed",
        )
    if record.status is not Status.ACTIVE:
        raise RecordRevokedError(
            f"model 0x{record.id.hex()} was revoked by its publisher at {record.revoked_at}",
            hint="ask the publisher for its successor",
        )


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


def _recover(
    model_id: bytes, source: AttestationSource, policy: Policy, block: Block, now: int
) -> tuple[Attestation, ...]:
    # Asked by attester: however many attestations strangers add, those that count are read.
    found = source.attestations_of(model_id, block=block, attesters=policy.attesters)
    about = [attestation for attestation in found if attestation.model_id == model_id]
    # The later clock decides: a node whose clock is behind must not believe what has expired.
    return counted(policy, about, max(now, block.timestamp))


def _check_lineage(
    registry: RecordSource, policy: Policy, record: Record, block: Block, model: ModelManifest
) -> None:
    said = {parent.id: parent.kind for parent in model.parents}
    for ancestor in ancestors(registry, record, block=block, limit=policy.max_ancestors):
        check_ancestor(policy, record, ancestor)
        if said.get(ancestor.id, ancestor.kind) is not ancestor.kind:
            raise ManifestError(
                f"the manifest calls 0x{ancestor.id.hex()} a {said[ancestor.id].word}, "
                f"it is a {ancestor.kind.word}"
            )


@contextmanager
def _step(number: int, what: str) -> Iterator[None]:
    """Put the number of the step before the message of whatever it refuses with."""
    try:
        yield
    except WeightproofError as error:
        error.message = f"step {number} ({what}): {error.message}"
        error.args = (error.message,)
        raise
