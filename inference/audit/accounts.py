"""Accounts: what the log says everybody owes, added up receipt by receipt in the log's order.

Pure: the comparison with the node's ledger and with the chain is the auditor's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from inference.audit.bodies import SettlementBody
from inference.audit.document import ZERO_DIGEST
from inference.audit.examination import Call
from inference.audit.plan_accounts import PlanAccounts
from inference.errors import AuditError
from inference.receipts import SignedReceipt

CHECK = 5
# Returns the receipt at an index of the log, for evidence; None where it cannot be had.
Recall: TypeAlias = Callable[[int], SignedReceipt | None]


@dataclass
class Accounts:
    """Sums in atomic units. Every method raises `AuditError` (5) with the receipts at fault.

    `exact` holds where each EIP-3009 authorisation was charged, by `authorization`.
    """

    network: str
    plans: PlanAccounts
    recall: Recall = lambda seq: None
    channels: dict[bytes, int] = field(default_factory=dict)
    exact: dict[bytes, int] = field(default_factory=dict)
    last: dict[bytes, int] = field(default_factory=dict)
    charged: int = 0

    def add(self, seq: int, call: Call, signed: SignedReceipt | None = None) -> None:
        """Take the next receipt, whose own arithmetic is right, into its channel's history.

        `signed` is the receipt itself where a plan had a part in it.
        """
        if signed is not None:
            self.plans.add(signed)
        if call.network != self.network:
            raise self._wrong(f"paid on {call.network}, not on {self.network}", seq)
        if call.channel != ZERO_DIGEST:
            self._add_to_channel(seq, call)
        elif call.scheme == "exact":
            self._add_exact(seq, call)
        elif call.charged:
            raise self._wrong("charged without a channel or an authorisation", seq)
        self.charged += call.charged

    def check_claims(self, seq: int, settlement: SettlementBody) -> None:
        """Refuse a claim of more than the receipts before it add up to."""
        for claim in settlement.claims:
            owed = self.channels.get(claim.channel, 0)
            if claim.total_claimed > owed:
                raise AuditError(
                    CHECK,
                    f"entry {seq} claims {claim.total_claimed} of a channel that owed {owed}",
                    evidence={"entry": seq, "settlement": settlement.to_json()}
                    | self.evidence(claim.channel),
                )

    def evidence(self, channel: bytes) -> dict[str, object]:
        """Return the channel's last receipt, which states its sum."""
        seq = self.last.get(channel)
        last = None if seq is None else self.recall(seq)
        return {"lastReceipt": last.public()} if last else {}

    def _add_to_channel(self, seq: int, call: Call) -> None:
        before = self.channels.get(call.channel, 0)
        if call.cumulative != before + call.charged:
            raise self._wrong(
                f"the channel had {before}, this call cost {call.charged}, "
                f"and the receipt says {call.cumulative}",
                seq,
                self.last.get(call.channel),
            )
        self.channels[call.channel] = call.cumulative
        self.last[call.channel] = seq

    def _add_exact(self, seq: int, call: Call) -> None:
        if call.cumulative != call.charged:
            raise self._wrong(f"cumulative {call.cumulative} is not {call.charged}", seq)
        if call.key is not None:
            name = authorization(*call.key)
            if name in self.exact:
                raise self._wrong("one authorisation was charged twice", seq, self.exact[name])
            self.exact[name] = seq

    def _wrong(self, message: str, seq: int, before: int | None = None) -> AuditError:
        return about(self.recall, CHECK, message, seq, before)


def authorization(asset: str, payer: str, nonce: bytes) -> bytes:
    """Return 16 bytes that name one EIP-3009 authorisation."""
    return hashlib.sha256(f"{asset}{payer}".encode() + nonce).digest()[:16]


def about(
    recall: Recall, check: int, message: str, seq: int, before: int | None = None
) -> AuditError:
    """Return the error about the receipt at `seq`, with it and the one at `before` as evidence."""
    evidence: dict[str, object] = {}
    name = f"at {seq}"
    if (signed := recall(seq)) is not None:
        evidence["receipt"], name = signed.public(), signed.receipt.id
    if before is not None:
        other = recall(before)
        evidence["before"] = other.public() if other else {"entry": before, "shown": "not again"}
    return AuditError(check, f"receipt {name}: {message}", evidence=evidence)
