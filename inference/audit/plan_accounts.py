"""What plans add up to: spending within the tiers' periods, and allowances used.

Each receipt states what it was built upon; here the same is added up from the receipts before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from inference.audit.offer_terms import offer_fault
from inference.errors import AuditError
from inference.price_facts import PriceOffer
from inference.receipt_plan import NONE, PURCHASE, AllowanceFacts, DiscountFacts
from inference.receipts import SignedReceipt

_CHECK: Final = 5
_SUBSCRIPTION: Final = "subscription"
_TIER: Final = "tier"
# Payer, and the first second of a period and of the next.
Period: TypeAlias = tuple[str, int, int]


@dataclass
class _Pot:
    """An allowance as its first receipt states it, and what receipts took of it so far."""

    first: SignedReceipt
    facts: AllowanceFacts
    used: int = 0


@dataclass
class PlanAccounts:
    """Sums of what plans gave. `add` raises `AuditError` (5) with the receipts at fault.

    `offer` returns the price offer with a digest, as the node shows it.
    """

    offer: Callable[[bytes], PriceOffer]
    _offers: dict[bytes, PriceOffer] = field(default_factory=dict)
    _spent: dict[Period, int] = field(default_factory=dict)
    _pots: dict[str, _Pot] = field(default_factory=dict)

    def add(self, signed: SignedReceipt) -> None:
        """Take the next receipt; its own arithmetic was checked before."""
        plan = signed.receipt.plan
        if plan is None:
            return
        if plan.offer not in self._offers:
            self._offers[plan.offer] = self.offer(plan.offer)
        if fault := offer_fault(self._offers[plan.offer], signed.receipt, plan):
            raise _wrong(fault, signed)
        self._add_spending(signed, plan.discount)
        if plan.allowance.kind == PURCHASE:
            self._begin(signed, plan.allowance)
        elif plan.allowance.kind != NONE:
            self._use(signed, plan.allowance)

    def _add_spending(self, signed: SignedReceipt, off: DiscountFacts) -> None:
        receipt = signed.receipt
        if not off.until:
            if off.since or off.spent or off.by == _TIER:
                raise _wrong("a tier without a period", signed)
            return
        if not off.since <= receipt.served_at < off.until:
            raise _wrong(f"served at {receipt.served_at}, outside its tiers' period", signed)
        key = (receipt.payment.payer, off.since, off.until)
        before = self._spent.get(key, 0)
        if off.spent != before:
            text = f"the payer had spent {before} in the period, the receipt says {off.spent}"
            raise _wrong(text, signed)
        self._spent[key] = before + receipt.payment.charged

    def _begin(self, signed: SignedReceipt, bought: AllowanceFacts) -> None:
        if bought.id != f"sub_{signed.receipt.seq}" or bought.used:
            raise _wrong(f"{bought.id} is not the subscription that begins here", signed)
        self._pots[bought.id] = _Pot(signed, bought)

    def _use(self, signed: SignedReceipt, taken: AllowanceFacts) -> None:
        pot = self._pots.get(taken.id)
        if pot is None:
            if taken.kind == _SUBSCRIPTION:
                raise _wrong(f"nobody bought subscription {taken.id}", signed)
            pot = self._pots[taken.id] = _Pot(signed, taken)
        was = pot.facts
        if (was.unit, was.limit, was.until) != (taken.unit, taken.limit, taken.until):
            raise _wrong(f"allowance {taken.id} was another before", signed, pot.first)
        if taken.kind != "coupon" and signed.receipt.payment.payer != _payer(pot):
            raise _wrong(f"allowance {taken.id} is of {_payer(pot)}", signed, pot.first)
        if taken.until and signed.receipt.served_at >= taken.until:
            raise _wrong(f"allowance {taken.id} ended at {taken.until}", signed)
        if taken.used != pot.used:
            text = f"{pot.used} of {taken.id} were used before, the receipt says {taken.used}"
            raise _wrong(text, signed, pot.first)
        pot.used += taken.taken


def _payer(pot: _Pot) -> str:
    return pot.first.receipt.payment.payer


def _wrong(message: str, signed: SignedReceipt, before: SignedReceipt | None = None) -> AuditError:
    evidence: dict[str, object] = {"receipt": signed.public()}
    if before is not None and before is not signed:
        evidence["before"] = before.public()
    return AuditError(_CHECK, f"receipt {signed.receipt.id}: {message}", evidence=evidence)
