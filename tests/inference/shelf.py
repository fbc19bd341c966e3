"""Models on a real chain, for tests of loading: registered and verified as in production."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from registry.chain.attestations import AttestationBook
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.model_registry import ModelRegistry
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.cid import RAW
from registry.manifest import ModelManifest
from registry.manifest_parts import Parent, Serving
from registry.policy import Policy
from registry.record import record_id
from registry.register import register_model
from registry.signing.signer import Signer
from registry.verify import VerifiedModel, verify_model


@dataclass
class Shelf:
    """Registers folders on a devnet and hands them back verified."""

    chain: Chain
    deployment: Deployment
    publisher: Signer
    blocks: MemoryBlockStore = field(default_factory=MemoryBlockStore)

    def verified(
        self,
        folder: Path,
        *,
        task: str,
        serving: Serving | None = None,
        parents: tuple[Parent, ...] = (),
        base_folder: Path | None = None,
    ) -> VerifiedModel:
        """Register a folder (again gives the same record) and verify it from its files.

        The files of an adapter's base come from `base_folder`, else from blocks.
        """
        registry = ModelRegistry(self.chain, self.deployment.model_registry)
        registration = register_model(
            folder,
            name=folder.name,
            task=task,
            parents=parents,
            blocks=self.blocks,
            registry=registry,
            signer=self.publisher,
            serving=serving,
        )
        return self._verified(registration.id, folder, base_folder)

    def recorded(self, manifest: ModelManifest, *, folder: Path | None) -> VerifiedModel:
        """Record a manifest as it is, whoever wrote it, and verify it."""
        self.blocks.put(RAW, manifest.encode())
        registry = ModelRegistry(self.chain, self.deployment.model_registry)
        id = record_id(self.publisher.address, manifest.digest)
        if registry.find(id) is None:
            registry.register(self.publisher, manifest.kind, manifest.digest, manifest.parent_ids)
        return self._verified(id, folder)

    def _verified(
        self, model_id: bytes, folder: Path | None, base_folder: Path | None = None
    ) -> VerifiedModel:
        registry = ModelRegistry(self.chain, self.deployment.model_registry)
        block = self.chain.head()
        return verify_model(
            model_id,
            registry=registry,
            attestations=AttestationBook(self.chain, self.deployment.attestations),
            blocks=self.blocks,
            folder=folder,
            base_folder=base_folder,
            policy=Policy(),
            block=block,
            now=block.timestamp,
        )
