"""Models on a real chain, for tests of loading: registered and verified as in production."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from registry.chain.attestations import AttestationBook
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.model_registry import ModelRegistry
from registry.ipfs.blockstore import MemoryBlockStore
from registry.manifest_parts import Serving
from registry.policy import Policy
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

    def verified(self, folder: Path, *, task: str, serving: Serving | None = None) -> VerifiedModel:
        """Register a folder (again gives the same record) and verify it from its files."""
        registry = ModelRegistry(self.chain, self.deployment.model_registry)
        registration = register_model(
            folder,
            name=folder.name,
            task=task,
            parents=(),
            blocks=self.blocks,
            registry=registry,
            signer=self.publisher,
            serving=serving,
        )
        block = self.chain.head()
        return verify_model(
            registration.id,
            registry=registry,
            attestations=AttestationBook(self.chain, self.deployment.attestations),
            blocks=self.blocks,
            folder=folder,
            policy=Policy(),
            block=block,
            now=block.timestamp,
        )
