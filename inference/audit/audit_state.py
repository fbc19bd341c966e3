"""What an auditor remembers of a log whose audit was good: the head it read to, and all sums.

A state is sealed with a key of the auditor's own: sums cannot be checked without reading the log
again, so nobody else may have written them. What it says of the log itself, its head, is signed by
the node, and the edge of the tree must give that head's root.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, ClassVar, Final

from inference.audit.anchor import AnchorEvent
from inference.audit.checkpoint import CheckpointError, checkpoint_domain, verify
from inference.audit.document import (
    Address,
    Amount,
    BytesKind,
    Count,
    Digest,
    Document,
    FormatError,
    ListKind,
    Text,
    TextKind,
)
from inference.audit.field_kinds import Base64Kind, ManyKind
from inference.audit.frontier import Frontier
from inference.audit.merkle import ProofError
from inference.audit.plan_accounts import Pot
from inference.audit.tally import Tally
from inference.audit.target import AuditTarget
from inference.errors import NodeError
from inference.receipt_plan import AllowanceFacts
from registry.errors import CanonicalError
from registry.signing.canonical import decode_object

# Some twenty bytes a receipt and a hundred a channel: a hundred million receipts.
MAX_BYTES: Final = 2 * 1024 * 1024 * 1024
_MANY: Final = 10_000_000
_ID_BYTES: Final = 8
_NAME_BYTES: Final = 16
_SEQ_BYTES: Final = 8
_NOTE: Final = TextKind(r"[\s\S]*", limit=16 * 1024)


class StateError(NodeError):
    """A remembered state that cannot be used. The message says why."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="without it the whole log is read")


@dataclass(frozen=True)
class ChannelSum(Document):
    """What a channel's receipts add up to, and where its last one stands."""

    channel: Digest
    owed: Amount
    last: Count


@dataclass(frozen=True)
class SpentSum(Document):
    """What a payer spent within a tiers' period."""

    payer: Address
    since: Count
    until: Count
    spent: Amount


@dataclass(frozen=True)
class PotSum(Document):
    """An allowance: what of it was used, where it was first stated and by whom."""

    first: Count
    payer: Address
    facts: AllowanceFacts
    used: Amount


@dataclass(frozen=True)
class SoldModel(Document):
    """When a model was sold last, and by which receipt."""

    model_id: Digest
    served_at: Count
    seq: Count


@dataclass(frozen=True)
class AuditState(Document):
    """The sums over the first `size` entries. `seal` is of everything else in it.

    `anchors` heads on chain were compared, of which `anchors_digest` is. `ids` and `exact` are
    packed: 8 bytes of each receipt's hashed id, in order of size; 16 bytes that name an
    authorisation and 8 of the index of its receipt.
    """

    FORMAT: ClassVar[str] = "weightproof/audit-state@1"

    node: Address
    origin: Text
    chain: Count
    anchor: Address
    registry: Address
    checkpoint: Annotated[str, _NOTE]
    size: Count
    edge: Annotated[tuple[bytes, ...], ManyKind(BytesKind(32), 64)]
    last_leaf: Digest
    anchors: Count
    anchors_digest: Digest
    calls: Count
    charged: Amount
    latest: Count
    latest_seq: Count
    channels: Annotated[tuple[ChannelSum, ...], ListKind(ChannelSum, _MANY)]
    spent: Annotated[tuple[SpentSum, ...], ListKind(SpentSum, _MANY)]
    pots: Annotated[tuple[PotSum, ...], ListKind(PotSum, _MANY)]
    models: Annotated[tuple[SoldModel, ...], ListKind(SoldModel, _MANY)]
    ids: Annotated[bytes, Base64Kind(MAX_BYTES)]
    exact: Annotated[bytes, Base64Kind(MAX_BYTES)]
    seal: Digest

    @classmethod
    def of(
        cls,
        target: AuditTarget,
        note: str,
        anchored: Sequence[AnchorEvent],
        tally: Tally,
        key: bytes,
    ) -> AuditState:
        """Write down the sums, sealed with the auditor's `key` (32 bytes).

        `anchored` are the heads that the checkpoint extends.
        """
        accounts, plans = tally.accounts, tally.accounts.plans
        latest, latest_seq = tally.clock.latest
        state = cls(
            node=target.node,
            origin=target.origin,
            chain=target.chain_id,
            anchor=target.anchor,
            registry=target.registry,
            checkpoint=note,
            size=tally.frontier.size,
            edge=tuple(tally.frontier.hashes),
            last_leaf=tally.last_leaf,
            anchors=len(anchored),
            anchors_digest=_digest(anchored),
            calls=tally.calls,
            charged=accounts.charged,
            latest=latest,
            latest_seq=latest_seq,
            channels=tuple(
                ChannelSum(channel, owed, accounts.last[channel])
                for channel, owed in accounts.channels.items()
            ),
            spent=tuple(SpentSum(*key, spent) for key, spent in plans.spent.items()),
            pots=tuple(
                PotSum(pot.first, pot.payer, _whole(pot.facts), pot.used)
                for pot in plans.pots.values()
            ),
            models=tuple(SoldModel(one, *when) for one, when in tally.standing.models.items()),
            ids=b"".join(one.to_bytes(_ID_BYTES) for one in sorted(tally.ids)),
            exact=b"".join(name + at.to_bytes(_SEQ_BYTES) for name, at in accounts.exact.items()),
            seal=bytes(32),
        )
        return replace(state, seal=state._sealed(key))

    def check(self, target: AuditTarget, key: bytes) -> None:
        """Raise `StateError` unless this auditor wrote it, about this log."""
        if not hmac.compare_digest(self.seal, self._sealed(key)):
            raise StateError("the remembered state was changed, or another auditor's key wrote it")
        mine = (self.node, self.origin, self.chain, self.anchor, self.registry)
        asked = (target.node, target.origin, target.chain_id, target.anchor, target.registry)
        if mine != asked:
            raise StateError(f"the remembered state is of {self.node}'s log {self.origin!r:.80}")
        try:
            domain = checkpoint_domain(self.chain, self.anchor)
            head = verify(self.checkpoint, self.node, domain, origin=self.origin).checkpoint
            root = Frontier(self.size, self.edge).root()
        except (CheckpointError, ProofError) as error:
            raise StateError(f"the remembered state: {error.message}") from error
        if (head.size, head.root) != (self.size, root):
            raise StateError("the remembered sums are not of the remembered checkpoint")

    def compared(self, anchored: Sequence[AnchorEvent]) -> int:
        """Return how many of the anchored heads, from the first on, were compared before."""
        return self.anchors if _digest(anchored[: self.anchors]) == self.anchors_digest else 0

    def restore(self, tally: Tally) -> None:
        """Put the sums into an empty tally."""
        accounts, plans = tally.accounts, tally.accounts.plans
        tally.frontier = Frontier(self.size, self.edge)
        tally.last_leaf = self.last_leaf
        tally.calls, accounts.charged = self.calls, self.charged
        tally.clock.latest = (self.latest, self.latest_seq)
        tally.ids = {int.from_bytes(one) for one in _pieces(self.ids, _ID_BYTES, "ids")}
        for row in _pieces(self.exact, _NAME_BYTES + _SEQ_BYTES, "exact"):
            accounts.exact[row[:_NAME_BYTES]] = int.from_bytes(row[_NAME_BYTES:])
        for one in self.channels:
            accounts.channels[one.channel], accounts.last[one.channel] = one.owed, one.last
        for sum_ in self.spent:
            plans.spent[(sum_.payer, sum_.since, sum_.until)] = sum_.spent
        for pot in self.pots:
            plans.pots[pot.facts.id] = Pot(pot.first, pot.payer, pot.facts, pot.used)
        for sold in self.models:
            tally.standing.models[sold.model_id] = (sold.served_at, sold.seq)

    def _sealed(self, key: bytes) -> bytes:
        return hmac.digest(key, replace(self, seal=bytes(32)).encode(), "sha256")


def parse_state(data: bytes) -> AuditState:
    """Read a state's canonical bytes. Raises `StateError`."""
    try:
        return AuditState.from_json(decode_object(data, max_bytes=MAX_BYTES))
    except (CanonicalError, FormatError) as error:
        raise StateError(f"the remembered state: {error.message}") from error


def _digest(anchored: Sequence[AnchorEvent]) -> bytes:
    return sha256(b"".join(one.size.to_bytes(8) + one.root for one in anchored)).digest()


def _whole(facts: AllowanceFacts) -> AllowanceFacts:
    """Return facts that can be written, of those that were only read."""
    return AllowanceFacts(**{name: getattr(facts, name) for name in AllowanceFacts.FIELDS})


def _pieces(data: bytes, size: int, what: str) -> list[bytes]:
    if len(data) % size:
        raise StateError(f"the remembered state: {what} is not of pieces of {size} bytes")
    return [data[at : at + size] for at in range(0, len(data), size)]
