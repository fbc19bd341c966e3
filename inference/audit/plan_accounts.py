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
from inference.receipt_format import Receipt
from inference.receipt_plan import NONE, PURCHASE, AllowanceFacts, DiscountFacts, PlanFacts
from inference.receipts import SignedReceipt

_CHECK: Final = 5
_SUBSCRIPTION: Final = "subscription"
_TIER: Final = "tier"
# Payer, and the first second of a period and of the next.
Period: TypeAlias = tuple[str, int, int]


class _FaultError(Exception):
    """What is wrong, and the index of the receipt it contradicts."""

    def __init__(self, message: str, before: int | None = None) -> None:
        super().__init__(message)
        self.before = before


@dataclass
class Pot:
    """An allowance as its first receipt states it, and what receipts took of it so far."""

    first: int
    payer: str
    facts: AllowanceFacts
    used: int = 0


@dataclass
class PlanAccounts:
    """Sums of what plans gave. `add` raises `AuditError` (5) with the receipts at fault.

    `offer` returns the price offer with a digest, as the node shows it; `recall` the receipt at an
    index, for evidence.
    """

    offer: Callable[[bytes], PriceOffer]
    recall: Callable[[int], SignedReceipt | None] = lambda seq: None
    _offers: dict[bytes, PriceOffer] = field(default_factory=dict)
    spent: dict[Period, int] = field(default_factory=dict)
    pots: dict[str, Pot] = field(default_factory=dict)

    def add(self, signed: SignedReceipt) -> None:
        """Take the next receipt; its own arithmetic was checked before."""
        plan = signed.receipt.plan
        if plan is None:
            return
        try:
            self._take(signed.receipt, plan)
        except _FaultError as fault:
            raise self._wrong(signed.receipt, fault) from None

    def _take(self, receipt: Receipt, plan: PlanFacts) -> None:
        if plan.offer not in self._offers:
            self._offers[plan.offer] = self.offer(plan.offer)
        if fault := offer_fault(self._offers[plan.offer], receipt, plan):
            raise _FaultError(fault)
        self._add_spending(receipt, plan.discount)
        if plan.allowance.kind == PURCHASE:
            self._begin(receipt, plan.allowance)
        elif plan.allowance.kind != NONE:
            self._use(receipt, plan.allowance)

    def _add_spending(self, receipt: Receipt, off: DiscountFacts) -> None:
        if not off.until:
            if off.since or off.spent or off.by == _TIER:
                raise _FaultError("a tier without a period")
            return
        if not off.since <= receipt.served_at < off.until:
            raise _FaultError(f"served at {receipt.served_at}, outside its tiers' period")
        key = (receipt.payment.payer, off.since, off.until)
        before = self.spent.get(key, 0)
        if off.spent != before:
            text = f"the payer had spent {before} in the period, the receipt says {off.spent}"
            raise _FaultError(text)
        self.spent[key] = before + receipt.payment.charged

    def _begin(self, receipt: Receipt, bought: AllowanceFacts) -> None:
        if bought.id != f"sub_{receipt.seq}" or bought.used:
            raise _FaultError(f"{bought.id} is not the subscription that begins here")
        self.pots[bought.id] = Pot(receipt.seq, receipt.payment.payer, bought)

    def _use(self, receipt: Receipt, taken: AllowanceFacts) -> None:
        pot = self.pots.get(taken.id)
        if pot is None:
            if taken.kind == _SUBSCRIPTION:
                raise _FaultError(f"nobody bought subscription {taken.id}")
            pot = self.pots[taken.id] = Pot(receipt.seq, receipt.payment.payer, taken)
        was = pot.facts
        if (was.unit, was.limit, was.until) != (taken.unit, taken.limit, taken.until):
            raise _FaultError(f"allowance {taken.id} was another before", pot.first)
        if taken.kind != "coupon" and receipt.payment.payer != pot.payer:
            raise _FaultError(f"allowance {taken.id} is of {pot.payer}", pot.first)
        if taken.until and receipt.served_at >= taken.until:
            raise _FaultError(f"allowance {taken.id} ended at {taken.until}")
        if taken.used != pot.used:
            text = f"{pot.used} of {taken.id} were used before, the receipt says {taken.used}"
            raise _FaultError(text, pot.first)
        pot.used += taken.taken

    def _wrong(self, receipt: Receipt, fault: _FaultError) -> AuditError:
        evidence: dict[str, object] = {}
        if (signed := self.recall(receipt.seq)) is not None:
            evidence["receipt"] = signed.public()
        if fault.before not in (None, receipt.seq):
            before = self.recall(fault.before or 0)
            evidence["before"] = before.public() if before else {"entry": fault.before}
        return AuditError(_CHECK, f"receipt {receipt.id}: {fault}", evidence=evidence)
