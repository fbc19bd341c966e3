"""The registry as one reader has it: a chain, its contracts and a block store, from settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from registry.chain.attestations import AttestationBook
from registry.chain.block import Block
from registry.chain.connection import Chain
from registry.chain.deploy import check
from registry.chain.model_registry import ModelRegistry
from registry.config import RegistryConfig
from registry.errors import RecordUnknownError
from registry.ipfs.blockstore import BlockStore, FolderBlockStore, LayeredBlockStore
from registry.signing.signer import Signer
from registry.verify import VerifiedModel, check_standing, verify_model


@dataclass(frozen=True)
class Workspace:
    """Opened settings: everything the registry's commands and the node ask."""

    config: RegistryConfig
    chain: Chain
    records: ModelRegistry
    attestations: AttestationBook
    blocks: BlockStore

    @classmethod
    def open(cls, config: RegistryConfig) -> Workspace:
        """Connect and check that the contracts are there. Raises `ChainError`."""
        chain = Chain(config.chain.rpc_url, config.chain.timeout_s, chain_id=config.chain.chain_id)
        check(chain, config.contracts)
        return cls(
            config=config,
            chain=chain,
            records=ModelRegistry(chain, config.contracts.model_registry),
            attestations=AttestationBook(chain, config.contracts.attestations),
            blocks=open_blocks(config),
        )

    def signer(self, role: str) -> Signer:
        """Open the key of a role."""
        return self.config.keys.signer(role, chain_id=self.config.chain.chain_id)

    def final_block(self) -> Block:
        """Return the newest block that counts as settled."""
        return self.chain.block(self.config.chain.finality)

    def verify(
        self,
        model_id: bytes,
        *,
        folder: Path | None = None,
        progress: Callable[[int], None] | None = None,
        keep_files: bool = True,
    ) -> VerifiedModel:
        """Verify a model at the newest settled block."""
        return verify_model(
            model_id,
            registry=self.records,
            attestations=self.attestations,
            blocks=self.blocks,
            policy=self.config.policy,
            block=self.final_block(),
            now=int(time.time()),
            folder=folder,
            progress=progress,
            keep_files=keep_files,
        )

    def recheck(self, verified: VerifiedModel) -> Block:
        """Ask again what may have changed about a model; return the block it was asked at."""
        block = self.final_block()
        check_standing(
            verified,
            registry=self.records,
            attestations=self.attestations,
            policy=self.config.policy,
            block=block,
            now=int(time.time()),
        )
        return block

    def find(self, text: str) -> bytes:
        """Return the record id that `text` names: 0x and 64 digits, or publisher/name.

        Raises `RecordUnknownError`.
        """
        digits = text.removeprefix("0x")
        if len(digits) == 64:
            try:
                return bytes.fromhex(digits)
            except ValueError:
                pass
        publisher, _, name = text.partition("/")
        found = self.records.resolve(publisher, name) if name else None
        if found is None:
            raise RecordUnknownError(
                f"{text!r:.90} names no record",
                hint="give 0x and 64 hexadecimal digits, or PUBLISHER/NAME",
            )
        return found


def open_blocks(config: RegistryConfig) -> BlockStore:
    """Return the block store of the settings: the folder first, then Kubo, then gateways."""
    store = config.store
    layers: list[BlockStore] = [FolderBlockStore(store.folder)]
    if store.kubo:
        # ipfshttpclient takes half a second to import, and most commands do not need it.
        from registry.ipfs.kubo import KuboBlockStore

        layers.append(KuboBlockStore(store.kubo, store.timeout_s))
    if store.gateways:
        from registry.ipfs.gateway import GatewayBlockStore

        layers += [GatewayBlockStore(url, store.timeout_s) for url in store.gateways]
    return LayeredBlockStore(layers)


def unattested(workspace: Workspace) -> Workspace:
    """Return the workspace of somebody who checks before anybody has vouched."""
    policy = replace(workspace.config.policy, min_attestations=0)
    return replace(workspace, config=replace(workspace.config, policy=policy))
