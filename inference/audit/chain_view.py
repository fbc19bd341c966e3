"""What an auditor asks the chain, and where the answers come from.

The payment contracts belong to another room: whoever wires an audit hands in two readers for
them. Everything else is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from inference.audit.anchor import AnchorContract, AnchorEvent
from inference.audit.target import AuditTarget as AuditTarget
from inference.audit.transfers import Transfer, transfers_in
from registry.attestation import Attestation
from registry.chain.attestations import AttestationBook
from registry.chain.block import Block
from registry.chain.connection import Chain
from registry.chain.model_registry import ModelRegistry
from registry.record import Record


@dataclass(frozen=True)
class ChannelState:
    """A payment channel on chain, in atomic units."""

    balance: int
    total_claimed: int


class ChainView(Protocol):
    """The chain's side of an audit. Raises `ChainError` when it does not answer."""

    def anchored(self, node: str, origin: str) -> Sequence[AnchorEvent]:
        """Return every anchored head of a log, oldest first."""

    def origins(self, node: str) -> Sequence[str]:
        """Return the names under which a node ever anchored logs."""

    def block_at(self, number: int) -> Block:
        """Return block `number`."""

    def record(self, model_id: bytes, block: Block | None) -> Record | None:
        """Return a model's record at a block, or at the head; None where there is none."""

    def attestations(
        self, model_id: bytes, block: Block, attesters: Collection[str] | None
    ) -> Sequence[Attestation]:
        """Return the attestations of a model at a block; None is those of any attester."""

    def channel(self, channel_id: bytes) -> ChannelState:
        """Return a channel as it is now."""

    def authorization_used(self, asset: str, payer: str, nonce: bytes) -> bool:
        """Say whether an EIP-3009 authorisation was spent."""

    def transfers(self, tx_hash: bytes, asset: str) -> Sequence[Transfer]:
        """Return what a transaction moved of a token."""


@dataclass(frozen=True)
class OnchainView:
    """The real chain. `channel_state` and `used` come from the payment contracts' adapters."""

    chain: Chain
    anchors: AnchorContract
    records: ModelRegistry
    book: AttestationBook
    channel_state: Callable[[bytes], ChannelState]
    used: Callable[[str, str, bytes], bool]
    from_block: int = 0

    def anchored(self, node: str, origin: str) -> Sequence[AnchorEvent]:
        """Return every anchored head of a log, oldest first."""
        return self.anchors.history(node, origin, from_block=self.from_block)

    def origins(self, node: str) -> Sequence[str]:
        """Return the names under which a node ever anchored logs."""
        return self.anchors.origins(node, from_block=self.from_block)

    def block_at(self, number: int) -> Block:
        """Return block `number`."""
        return self.chain.block_at(number)

    def record(self, model_id: bytes, block: Block | None) -> Record | None:
        """Return a model's record at a block, or at the head; None where there is none."""
        # At a stated block all endpoints are asked, where there are several: one hides nothing.
        return self.records.find(model_id, block=block or self.records.chain.block())

    def attestations(
        self, model_id: bytes, block: Block, attesters: Collection[str] | None
    ) -> Sequence[Attestation]:
        """Return the attestations of a model at a block; None is those of any attester."""
        return self.book.attestations_of(model_id, block=block, attesters=attesters)

    def channel(self, channel_id: bytes) -> ChannelState:
        """Return a channel as it is now."""
        return self.channel_state(channel_id)

    def authorization_used(self, asset: str, payer: str, nonce: bytes) -> bool:
        """Say whether an EIP-3009 authorisation was spent."""
        return self.used(asset, payer, nonce)

    def transfers(self, tx_hash: bytes, asset: str) -> Sequence[Transfer]:
        """Return what a transaction moved of a token."""
        return transfers_in(self.chain, tx_hash, asset)
