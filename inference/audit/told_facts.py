"""What the chain told an auditor, as documents: the same facts in a saved bundle's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from inference.audit.anchor import AnchorEvent
from inference.audit.chain_view import ChannelState
from inference.audit.document import (
    Address,
    Amount,
    BytesKind,
    Count,
    Digest,
    Document,
    FormatError,
    ListKind,
    OptionalKind,
    Remark,
    Text,
)
from inference.audit.field_kinds import ManyKind
from inference.audit.transfers import Transfer
from registry.attestation import Attestation
from registry.chain.block import Block
from registry.record import Kind, Record, Status

# What a contract's history or a model's attestations may come to in one bundle.
_MANY = 1_000_000


@dataclass(frozen=True)
class AnchorFact(Document):
    """A head that was anchored; `signature` where the chain's event has it."""

    size: Count
    root: Digest
    block: Count
    transaction: Digest
    signature: Annotated[bytes | None, OptionalKind(BytesKind(65))] = None


@dataclass(frozen=True)
class AnchorFacts(Document):
    """Every anchored head of a log, oldest first."""

    anchors: Annotated[tuple[AnchorFact, ...], ListKind(AnchorFact, _MANY)]

    @classmethod
    def of(cls, events: Sequence[AnchorEvent]) -> AnchorFacts:
        """Write events down."""
        return cls(
            tuple(
                AnchorFact(e.size, e.root, e.block, e.tx_hash, e.signature or None) for e in events
            )
        )

    def events(self) -> tuple[AnchorEvent, ...]:
        """Return the events."""
        return tuple(
            AnchorEvent(a.size, a.root, a.block, a.transaction, a.signature or b"")
            for a in self.anchors
        )


@dataclass(frozen=True)
class BlockFact(Document):
    """A block."""

    number: Count
    hash: Digest
    timestamp: Count

    @classmethod
    def of(cls, block: Block) -> BlockFact:
        """Write a block down."""
        return cls(block.number, block.hash, block.timestamp)

    def block(self) -> Block:
        """Return the block."""
        return Block(self.number, self.hash, self.timestamp)


@dataclass(frozen=True)
class RecordFact(Document):
    """A record; `kind` and `status` are the contract's numbers."""

    id: Digest
    publisher: Address
    kind: Count
    status: Count
    registered_at: Count
    revoked_at: Count
    manifest_digest: Digest
    parents: Annotated[tuple[bytes, ...], ManyKind(BytesKind(32), 256)]

    @classmethod
    def of(cls, record: Record) -> RecordFact:
        """Write a record down."""
        values = {name: getattr(record, name) for name in cls.FIELDS}
        return cls(**(values | {"kind": int(record.kind), "status": int(record.status)}))

    def record(self) -> Record:
        """Return the record. Raises `FormatError` for a kind or status that is none."""
        values = {name: getattr(self, name) for name in self.FIELDS}
        try:
            known = {"kind": Kind(self.kind), "status": Status(self.status)}
        except ValueError as error:
            raise FormatError("record", str(error)) from error
        return Record(**(values | known))


@dataclass(frozen=True)
class AttestationFact(Document):
    """An attestation as the chain has it."""

    model_id: Digest
    attester: Address
    tag: Text
    score: Count
    evidence: Digest
    issued_at: Count
    expires_at: Count
    revoked_at: Count


@dataclass(frozen=True)
class AttestationFacts(Document):
    """The attestations of a model at a block."""

    attestations: Annotated[tuple[AttestationFact, ...], ListKind(AttestationFact, _MANY)]

    @classmethod
    def of(cls, found: Sequence[Attestation]) -> AttestationFacts:
        """Write attestations down."""
        names = AttestationFact.FIELDS
        return cls(
            tuple(AttestationFact(**{name: getattr(one, name) for name in names}) for one in found)
        )

    def found(self) -> tuple[Attestation, ...]:
        """Return the attestations."""
        names = AttestationFact.FIELDS
        return tuple(
            Attestation(**{name: getattr(one, name) for name in names}) for one in self.attestations
        )


@dataclass(frozen=True)
class ChannelFact(Document):
    """A channel as it was when it was asked for, in atomic units."""

    balance: Amount
    total_claimed: Amount

    @classmethod
    def of(cls, state: ChannelState) -> ChannelFact:
        """Write a channel down."""
        return cls(state.balance, state.total_claimed)

    def state(self) -> ChannelState:
        """Return the channel."""
        return ChannelState(self.balance, self.total_claimed)


@dataclass(frozen=True)
class TransferFact(Document):
    """One movement of a token, in atomic units."""

    sender: Address
    receiver: Address
    amount: Amount


@dataclass(frozen=True)
class TransferFacts(Document):
    """What a transaction moved of a token."""

    transfers: Annotated[tuple[TransferFact, ...], ListKind(TransferFact, _MANY)]

    @classmethod
    def of(cls, found: Sequence[Transfer]) -> TransferFacts:
        """Write transfers down."""
        return cls(tuple(TransferFact(t.sender, t.receiver, t.amount) for t in found))

    def found(self) -> tuple[Transfer, ...]:
        """Return the transfers."""
        return tuple(Transfer(t.sender, t.receiver, t.amount) for t in self.transfers)


@dataclass(frozen=True)
class UsedFact(Document):
    """Whether an authorisation was spent: 1 or 0."""

    used: Count


@dataclass(frozen=True)
class NothingFact(Document):
    """There is none."""

    none: Text = "none"


@dataclass(frozen=True)
class RefusedFact(Document):
    """What was asked has no answer; `refused` is the kind of the error, `message` its text."""

    refused: Text
    message: Remark
