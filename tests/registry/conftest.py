"""A registered model on a real chain, its blocks and its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.chain.attestations import AttestationBook
from registry.chain.block import Block
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.cid import RAW
from registry.manifest import Environment, Parent, RunManifest
from registry.policy import Policy
from registry.record import Kind
from registry.register import Registration, register_dataset, register_model, register_run
from registry.signing.signer import Signer
from registry.verify import VerifiedModel, verify_model
from tests.registry.model_folders import write_dataset, write_model

DAY_S = 86_400
ENVIRONMENT = Environment(
    code="unknown",
    python="3.11.7",
    platform="Linux x86_64",
    hardware="2 x processor",
    threads="1",
    seed="7",
    packages={"torch": "2.13.0"},
)


@dataclass
class World:
    """Everything a verification needs, and the keys to change it."""

    devnet: Devnet
    registry: ModelRegistry
    book: AttestationBook
    blocks: MemoryBlockStore
    folder: Path
    dataset: Registration
    run: Registration
    model: Registration
    publisher: Signer
    attester: Signer
    policy: Policy

    def head(self) -> Block:
        return self.devnet.chain.head()

    def verify(self, **changes: object) -> VerifiedModel:
        """Verify the model from its folder at the head; `changes` replace any argument."""
        block = changes.get("block") or self.head()
        arguments = {
            "registry": self.registry,
            "attestations": self.book,
            "blocks": self.blocks,
            "folder": self.folder,
            "policy": self.policy,
            "block": block,
            "now": block.timestamp,
        }
        model_id = changes.pop("model_id", self.model.id)
        return verify_model(model_id, **{**arguments, **changes})  # type: ignore[arg-type]


def run_manifest(**changes: object) -> RunManifest:
    values = {
        "name": "reviews",
        "datasets": (),
        "base": (),
        "environment": ENVIRONMENT,
        "hyperparameters": {"learning_rate": "5e-05"},
        "metrics": {"accuracy": "0.78"},
        "started_at": 1_700_000_000,
        "ended_at": 1_700_000_105,
    }
    return RunManifest(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def registry(restored: Devnet, deployment: Deployment) -> ModelRegistry:
    return ModelRegistry(restored.chain, deployment.model_registry)


@pytest.fixture
def blocks() -> MemoryBlockStore:
    return MemoryBlockStore()


@pytest.fixture
def world(
    restored: Devnet,
    deployment: Deployment,
    registry: ModelRegistry,
    blocks: MemoryBlockStore,
    signers: list[Signer],
    tmp_path: Path,
) -> World:
    publisher, attester = signers[1], signers[3]
    common = {"blocks": blocks, "registry": registry, "signer": publisher}
    folder = write_model(tmp_path / "model")
    dataset = register_dataset(write_dataset(tmp_path / "data"), name="reviews", **common)
    manifest = run_manifest(datasets=(dataset.id,), output_root=dataset.manifest.root)
    run = register_run(manifest, **common)
    model = register_model(
        folder, name="tiny", task="chat", parents=[Parent(Kind.RUN, run.id)], **common
    )
    book = AttestationBook(restored.chain, deployment.attestations)
    book.attest(attester, model.id, "integrity", 10_000, restored.chain.head().timestamp + DAY_S)
    return World(
        devnet=restored,
        registry=registry,
        book=book,
        blocks=blocks,
        folder=folder,
        dataset=dataset,
        run=run,
        model=model,
        publisher=publisher,
        attester=attester,
        policy=Policy(
            publishers=frozenset({publisher.address}),
            attesters=frozenset({attester.address}),
            min_attestations=1,
        ),
    )


def forget(blocks: MemoryBlockStore, digest: bytes) -> None:
    """Drop one raw block from a store."""
    blocks._blocks = {
        cid: data
        for cid, data in blocks._blocks.items()
        if (cid.codec, cid.digest) != (RAW, digest)
    }
