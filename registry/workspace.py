"""The registry as one reader has it: a chain, its contracts and a block store, from settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from registry.attestation import Attestation
from registry.chain.attestations import AttestationBook
from registry.chain.block import Block
from registry.chain.code_pin import CodePin, pin
from registry.chain.connection import Chain
from registry.chain.deploy import check
from registry.chain.heads import Heads
from registry.chain.model_registry import ModelRegistry
from registry.chain.settled import Settled
from registry.chain.witnessed import WitnessedChain
from registry.chain_facts import step
from registry.config import ChainConfig, RegistryConfig
from registry.errors import RecordUnknownError
from registry.ipfs.blockstore import BlockStore, FolderBlockStore, LayeredBlockStore
from registry.policy import check_freshness
from registry.signing.signer import Signer
from registry.verify import VerifiedModel, check_standing, verify_model


@dataclass(frozen=True)
class Workspace:
    """Opened settings: everything the registry's commands and the node ask.

    `chain` is the first endpoint: money moves by its word. What decides about a model (`settled`,
    the newest final block; `records`, `attestations` and `pins`, the code of both) is asked of its
    witnesses too, where there are any.
    """

    config: RegistryConfig
    chain: Chain
    settled: Settled
    records: ModelRegistry
    attestations: AttestationBook
    pins: tuple[CodePin, ...]
    blocks: BlockStore

    @classmethod
    def open(cls, config: RegistryConfig) -> Workspace:
        """Connect, and check that the contracts are there and are ours. Raises `ChainError`."""
        chain = Chain(
            config.chain.rpc_url,
            config.chain.timeout_s,
            chain_id=config.chain.chain_id,
            fees=config.chain.fees,
        )
        check(chain, config.contracts)
        witnessed = _witnessed(config.chain, chain)
        records = ModelRegistry(witnessed, config.contracts.model_registry)
        attestations = AttestationBook(witnessed, config.contracts.attestations)
        return cls(
            config=config,
            chain=chain,
            settled=Settled(witnessed, config.chain.finality),
            records=records,
            attestations=attestations,
            pins=_pins(config, records, attestations),
            blocks=open_blocks(config),
        )

    def signer(self, role: str) -> Signer:
        """Open the key of a role."""
        return self.config.keys.signer(role, chain_id=self.config.chain.chain_id)

    def final_block(self) -> Block:
        """Return the newest block that counts as settled. Raises what `Settled.newest` raises."""
        return self.settled.newest()

    def trusted_block(self) -> Block:
        """Return the newest settled block if what is read there may be believed.

        Raises `ChainStaleError` when it is too old, and `ChainDisputedError` when endpoints
        contradict, when a final block changed, or when the code of a contract did.
        """
        with step(1, "record"):
            block = self.final_block()
            check_freshness(self.config.policy, block.timestamp, int(time.time()))
            for pinned in self.pins:
                pinned.check(self.records.chain, block)
        return block

    def heads(self) -> Heads | None:
        """Return the subscription to new heads, or None where they are only polled."""
        chain = self.config.chain
        return Heads(chain.heads_url, chain.timeout_s) if chain.heads_url else None

    def verify(
        self,
        model_id: bytes,
        *,
        folder: Path | None = None,
        base_folder: Path | None = None,
        progress: Callable[[int], None] | None = None,
        keep_files: bool = True,
    ) -> VerifiedModel:
        """Verify a model at the newest settled block, and the base of an adapter."""
        return verify_model(
            model_id,
            registry=self.records,
            attestations=self.attestations,
            blocks=self.blocks,
            policy=self.config.policy,
            block=self.trusted_block(),
            now=int(time.time()),
            folder=folder,
            base_folder=base_folder,
            progress=progress,
            keep_files=keep_files,
        )

    def recheck(self, verified: VerifiedModel, block: Block) -> tuple[Attestation, ...]:
        """Ask again, at a block from `trusted_block`, what may have changed about a model.

        Returns the attestations that count now. Raises what `check_standing` raises.
        """
        return check_standing(
            verified,
            registry=self.records,
            attestations=self.attestations,
            policy=self.config.policy,
            block=block,
            now=int(time.time()),
        )

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


def _witnessed(config: ChainConfig, chain: Chain) -> Chain:
    if not config.witnesses:
        return chain
    return WitnessedChain(
        config.rpc_url, config.witnesses, config.timeout_s, chain_id=config.chain_id
    )


def _pins(
    config: RegistryConfig, records: ModelRegistry, attestations: AttestationBook
) -> tuple[CodePin, ...]:
    chain, code = records.chain, config.code
    return (
        pin(
            chain,
            "ModelRegistry",
            records.address,
            domain=records.domain,
            expected=code.get("model_registry_code"),
        ),
        pin(
            chain,
            "Attestations",
            attestations.address,
            domain=attestations.domain,
            holds=(records.address,),
            expected=code.get("attestations_code"),
        ),
    )


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
