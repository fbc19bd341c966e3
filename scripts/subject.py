"""What benches load: a model folder, registered on a devnet of its own, and how to verify it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from registry.chain.attestations import AttestationBook
from registry.chain.deploy import deploy
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.ipfs.blockstore import MemoryBlockStore
from registry.manifest import ModelManifest
from registry.policy import Policy
from registry.register import register_model
from registry.signing.signer import ANVIL_CHAIN_ID, Signer
from registry.verify import VerifiedModel, verify_model


@dataclass(frozen=True)
class Subject:
    """A registered folder, and how to verify it."""

    folder: Path
    manifest: ModelManifest
    verify: Callable[[], VerifiedModel]

    @property
    def weights(self) -> list[Path]:
        """Return the weight files."""
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def size(self) -> int:
        """Return the bytes of all weight files."""
        return sum(path.stat().st_size for path in self.weights)


def register(net: Devnet, folder: Path, task: str) -> Subject:
    """Deploy the contracts on a devnet and register a folder there."""
    signer = Signer.anvil(0, chain_id=ANVIL_CHAIN_ID)
    deployment = deploy(net.chain, signer)
    registry = ModelRegistry(net.chain, deployment.model_registry)
    attestations = AttestationBook(net.chain, deployment.attestations)
    blocks = MemoryBlockStore()
    registration = register_model(
        folder,
        name=folder.name,
        task=task,
        parents=(),
        blocks=blocks,
        registry=registry,
        signer=signer,
    )

    def verify() -> VerifiedModel:
        block = net.chain.head()
        return verify_model(
            registration.id,
            registry=registry,
            attestations=attestations,
            blocks=blocks,
            folder=folder,
            policy=Policy(),
            block=block,
            now=block.timestamp,
        )

    manifest = registration.manifest
    if not isinstance(manifest, ModelManifest):
        raise TypeError("what was registered as a model is none")
    return Subject(folder, manifest, verify)
