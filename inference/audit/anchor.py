"""The AuditAnchor contract: checkpoints on chain, which no node can take back.

Whoever sends the transaction, the contract recovers the node from the checkpoint's signature; a
log is named by node and origin. So what stands here was signed by the node, whoever asks. The
chain keeps one word of each log; root and signature stand in the event of its block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from eth_abi.abi import encode

from inference.audit.checkpoint import SignedCheckpoint, checkpoint_domain
from registry.chain.block import BlockRef, TxReceipt
from registry.chain.connection import Chain
from registry.chain.event import Event
from registry.errors import ChainMismatchError
from registry.signing.canonical import JsonObject
from registry.signing.keccak import keccak
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

_NAME: Final = "AuditAnchor"


@dataclass(frozen=True)
class Anchored:
    """The last anchored head: `root` is 32 bytes, `anchored_at` unix seconds of the chain."""

    size: int
    root: bytes
    anchored_at: int


@dataclass(frozen=True)
class AnchorEvent:
    """One anchored head as it was written: in which block and transaction (32 bytes).

    `signature` is the node's, 65 bytes: with it the head is evidence.
    """

    size: int
    root: bytes
    block: int
    tx_hash: bytes
    signature: bytes = b""

    def to_json(self) -> JsonObject:
        """Return it as evidence: anybody can look the transaction up."""
        said: JsonObject = {
            "size": self.size,
            "root": "0x" + self.root.hex(),
            "block": self.block,
            "transaction": "0x" + self.tx_hash.hex(),
        }
        if self.signature:
            said["signature"] = "0x" + self.signature.hex()
        return said


def log_id(node: str, origin: str) -> bytes:
    """Return the 32 bytes the contract files a log under."""
    return keccak(encode(["address", "string"], [node, origin]))


class AnchorContract:
    """One deployed AuditAnchor."""

    def __init__(self, chain: Chain, address: str) -> None:
        self.chain: Final = chain
        self.address: Final = address

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain that checkpoints are signed in."""
        return checkpoint_domain(self.chain.chain_id, self.address)

    def anchor(self, signer: Signer, signed: SignedCheckpoint) -> TxReceipt:
        """Write a signed head on chain; `signer` pays the gas and may be anybody.

        Raises `TransactionFailedError` whose reason is SizeShrinks, RootConflict, AlreadyAnchored
        or EmptyLog.
        """
        head = signed.checkpoint
        contract = self.chain.contract(_NAME, self.address)
        call = contract.functions.anchor(head.origin, head.size, head.root, signed.signature)
        return self.chain.send(signer, call)

    def latest(self, node: str, origin: str, *, block: BlockRef | None = None) -> Anchored | None:
        """Return the last anchored head of a log, or None where there is none."""
        contract = self.chain.contract(_NAME, self.address)
        call = contract.functions.latest(log_id(node, origin))
        size, anchored_at, anchored_in, _ = self.chain.call(call, block)
        if not size:
            return None
        written = self._events(node, origin, anchored_in, anchored_in)
        for event in written:
            if event.size == size:
                return Anchored(size, event.root, anchored_at)
        raise ChainMismatchError(
            f"block {anchored_in} has no event of the head of {size} that the chain names",
            hint="the RPC endpoint drops events, or the block was reorganised: ask again",
        )

    def history(self, node: str, origin: str, *, from_block: int = 0) -> tuple[AnchorEvent, ...]:
        """Return every head of a log that was ever anchored, oldest first."""
        # An address without code has no events either: that must not look like an empty history.
        self.chain.contract(_NAME, self.address)
        return self._events(node, origin, from_block, None)

    def origins(self, node: str, *, from_block: int = 0) -> tuple[str, ...]:
        """Return the names of all logs that a node ever anchored."""
        events = self.chain.events(
            _NAME, self.address, "Anchored", where={"node": node}, from_block=from_block
        )
        return tuple(sorted({cast(str, event.values["origin"]) for event in events}))

    def anchored_in(self, receipt: TxReceipt) -> tuple[AnchorEvent, ...]:
        """Return the heads that one transaction anchored."""
        return tuple(
            map(_anchor_event, self.chain.events_in(receipt, _NAME, self.address, "Anchored"))
        )

    def _events(
        self, node: str, origin: str, first: int, last: int | None
    ) -> tuple[AnchorEvent, ...]:
        events = self.chain.events(
            _NAME,
            self.address,
            "Anchored",
            where={"logId": log_id(node, origin)},
            from_block=first,
            to_block=last,
        )
        return tuple(map(_anchor_event, events))


def _anchor_event(event: Event) -> AnchorEvent:
    return AnchorEvent(
        cast(int, event.values["size"]),
        cast(bytes, event.values["root"]),
        event.block,
        event.tx_hash,
        cast(bytes, event.values["signature"]),
    )
