"""What log entries hold beside receipts: settlements, anchors, incidents, refusals, a start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from inference.audit.disclosure import Refusal
from inference.audit.document import (
    Address,
    Amount,
    Count,
    Digest,
    Document,
    ListKind,
    Remark,
    Text,
    TextKind,
    remark,
)
from inference.audit.entry import ANCHOR, INCIDENT, REFUSAL, SETTLEMENT, START, Entry

# What one claim transaction can carry is bounded by the block's gas, far below this.
MAX_CLAIMS: Final = 1000
Action: TypeAlias = Annotated[str, TextKind(r"deposit|claim|settle|refund|transfer")]


@dataclass(frozen=True)
class Claim(Document):
    """One row of a claim: the channel's total after it, in atomic units."""

    channel: Digest
    total_claimed: Amount


@dataclass(frozen=True)
class SettlementBody(Document):
    """One mined transaction that moved or booked money.

    `claims` is empty unless the action is `claim`; `amount` is what moved, zero for a claim.
    """

    action: Action
    token: Address
    amount: Amount
    claims: Annotated[tuple[Claim, ...], ListKind(Claim, MAX_CLAIMS)]
    transaction: Digest
    block: Count
    gas_used: Count


@dataclass(frozen=True)
class AnchorBody(Document):
    """A checkpoint that was written on chain."""

    size: Count
    root: Digest
    transaction: Digest
    block: Count
    gas_used: Count


@dataclass(frozen=True)
class IncidentBody(Document):
    """The node noticed something: `subject` is what it is about, such as a ModelId."""

    incident: Text
    subject: Text
    detail: Remark
    noticed_at: Count

    @classmethod
    def of(cls, incident: str, subject: str, detail: str, noticed_at: int) -> IncidentBody:
        """Return an incident whose detail is any text, made fit: it must never go unlogged."""
        return cls(incident, subject, remark(detail), noticed_at)


@dataclass(frozen=True)
class StartBody(Document):
    """A node began to write: who, which log, anchored where, with which software."""

    node: Address
    origin: Text
    chain: Count
    anchor: Address
    software: Text
    started_at: Count


# What the body of an entry is, by its kind; a receipt's is not here.
BODIES: Final[dict[str, type[Document]]] = {
    SETTLEMENT: SettlementBody,
    ANCHOR: AnchorBody,
    INCIDENT: IncidentBody,
    REFUSAL: Refusal,
    START: StartBody,
}
_KIND_OF: Final = {body: kind for kind, body in BODIES.items()}


def entry_of(
    seq: int, body: SettlementBody | AnchorBody | IncidentBody | Refusal | StartBody
) -> Entry:
    """Return the log entry that holds `body` at `seq`."""
    return Entry(seq, _KIND_OF[type(body)], body.to_json())


def parse_body(entry: Entry) -> Document:
    """Read the body of an entry that is not a receipt. Raises `FormatError`."""
    return BODIES[entry.kind].from_json(entry.body, "body")
