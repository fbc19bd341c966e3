"""Accounts: what the log says everybody owes, added up receipt by receipt in the log's order.

Pure: the comparison with the node's ledger and with the chain is the auditor's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from inference.audit.bodies import SettlementBody
from inference.audit.document import ZERO_DIGEST
from inference.audit.plan_accounts import PlanAccounts
from inference.errors import AuditError
from inference.receipts import SignedReceipt, check_charge

CHECK = 5
# Names one EIP-3009 authorisation: token, payer, nonce.
AuthorizationKey: TypeAlias = tuple[str, str, bytes]


@dataclass
class Accounts:
    """Sums in atomic units. Every method raises `AuditError` (5) with the receipts at fault."""

    network: str
    plans: PlanAccounts
    channels: dict[bytes, int] = field(default_factory=dict)
    exact: dict[AuthorizationKey, SignedReceipt] = field(default_factory=dict)
    _last: dict[bytes, SignedReceipt] = field(default_factory=dict)

    def add(self, signed: SignedReceipt) -> None:
        """Take the next receipt: its own arithmetic, then its place in its channel's history."""
        check_charge(signed)
        self.plans.add(signed)
        payment = signed.receipt.payment
        if payment.network != self.network:
            raise _wrong(f"paid on {payment.network}, not on {self.network}", signed)
        if payment.channel != ZERO_DIGEST:
            self._add_to_channel(signed)
        elif payment.scheme == "exact":
            self._add_exact(signed)
        elif payment.charged:
            raise _wrong("charged without a channel or an authorisation", signed)

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
        last = self._last.get(channel)
        return {"lastReceipt": last.public()} if last else {}

    def _add_to_channel(self, signed: SignedReceipt) -> None:
        payment = signed.receipt.payment
        before = self.channels.get(payment.channel, 0)
        if payment.cumulative != before + payment.charged:
            raise _wrong(
                f"the channel had {before}, this call cost {payment.charged}, "
                f"and the receipt says {payment.cumulative}",
                signed,
                self._last.get(payment.channel),
            )
        self.channels[payment.channel] = payment.cumulative
        self._last[payment.channel] = signed

    def _add_exact(self, signed: SignedReceipt) -> None:
        payment = signed.receipt.payment
        if payment.cumulative != payment.charged:
            raise _wrong(f"cumulative {payment.cumulative} is not {payment.charged}", signed)
        if payment.charged:
            key = (payment.asset, payment.payer, payment.nonce)
            if key in self.exact:
                raise _wrong("one authorisation was charged twice", signed, self.exact[key])
            self.exact[key] = signed


def _wrong(message: str, signed: SignedReceipt, before: SignedReceipt | None = None) -> AuditError:
    evidence: dict[str, object] = {"receipt": signed.public()}
    if before is not None:
        evidence["before"] = before.public()
    return AuditError(CHECK, f"receipt {signed.receipt.id}: {message}", evidence=evidence)
