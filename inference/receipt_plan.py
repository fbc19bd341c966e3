"""What a receipt of format 2 states beside format 1: how list price and charge hang together.

`charged = listed - discount - covered`: the discount in thousandths, its fraction of a unit the
payer's; then what an allowance covered. `listed` is what price, tokens and compute time make.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from inference.audit.document import Amount, Count, Digest, Document, TextKind

NONE: Final = "none"
PURCHASE: Final = "purchase"
TRIAL: Final = "trial"
CONTRACT: Final = "contract"
CALLS: Final = "calls"
_PERMILLE: Final = 1000
_PER_SECOND_TO_MILLIONTHS: Final = 1000

By: TypeAlias = Annotated[str, TextKind(r"tier|contract|none")]
Kind: TypeAlias = Annotated[str, TextKind(r"coupon|subscription|trial|purchase|none")]
Unit: TypeAlias = Annotated[str, TextKind(r"calls|amount|none")]
AllowanceId: TypeAlias = Annotated[str, TextKind(r"[A-Za-z0-9_-]{0,66}", limit=66)]


@dataclass(frozen=True)
class TimeFacts(Document):
    """The price of a second of computing, the most milliseconds charged, those measured."""

    per_second: Amount
    most_ms: Count
    compute_ms: Count

    @property
    def quoted(self) -> int:
        """The most that computing can cost, in millionths of an atomic unit."""
        return self.most_ms * self.per_second * _PER_SECOND_TO_MILLIONTHS

    @property
    def used(self) -> int:
        """What computing cost, in millionths of an atomic unit."""
        charged_ms = min(self.compute_ms, self.most_ms)
        return charged_ms * self.per_second * _PER_SECOND_TO_MILLIONTHS


@dataclass(frozen=True)
class DiscountFacts(Document):
    """Thousandths off, by a volume tier or the payer's contract.

    Where the node has tiers, `since` and `until` bound their period in unix seconds and `spent` is
    what earlier receipts with the same bounds charged this payer; `step` is the spending from
    which the tier counts. All zero where it has none.
    """

    by: By
    permille: Count
    since: Count
    until: Count
    spent: Amount
    step: Amount


@dataclass(frozen=True)
class AllowanceFacts(Document):
    """Free calls, or a free amount: how much of `limit` was `used` before, what this call took.

    A subscription's id ends in the log position of the receipt that bought it (`purchase`).
    `until` is in unix seconds, zero for no end.
    """

    kind: Kind
    id: AllowanceId
    unit: Unit
    limit: Amount
    used: Amount
    covered: Amount
    until: Count

    @property
    def taken(self) -> int:
        """What the call took of the limit."""
        if self.kind in (NONE, PURCHASE):
            return 0
        return 1 if self.unit == CALLS else self.covered


@dataclass(frozen=True)
class PlanFacts(Document):
    """How a charge came about; amounts in atomic units.

    `offer` is the digest of the price offer (`price_offer`) that the call was made under.
    """

    offer: Digest
    listed: Amount
    time: TimeFacts
    discount: DiscountFacts
    allowance: AllowanceFacts

    def fault(self) -> str:
        """Return what in it cannot be, or nothing."""
        off, pot = self.discount, self.allowance
        if off.permille > _PERMILLE:
            return f"a discount of {off.permille} thousandths"
        if bool(off.permille) != (off.by != NONE):
            return f"{off.permille} thousandths off by {off.by}"
        if off.step > off.spent:
            return f"the tier from {off.step} on was given at {off.spent}"
        if (pot.kind == NONE) != (pot.unit == NONE):
            return f"an allowance of kind {pot.kind} in {pot.unit}"
        left = self.discounted
        if pot.kind in (NONE, PURCHASE):
            most = 0
        elif pot.used >= pot.limit:
            return f"allowance {pot.id} was used up: {pot.used} of {pot.limit}"
        else:
            most = left if pot.unit == CALLS else min(left, pot.limit - pot.used)
        if pot.covered != most:
            return f"the allowance covered {pot.covered}, it makes {most}"
        return ""

    @property
    def discounted(self) -> int:
        """List price less discount; a fraction of a unit is the payer's."""
        return self.listed * (_PERMILLE - self.discount.permille) // _PERMILLE

    @property
    def due(self) -> int:
        """What is left to pay."""
        return self.discounted - self.allowance.covered


NO_TIME: Final = TimeFacts(0, 0, 0)
NO_DISCOUNT: Final = DiscountFacts(NONE, 0, 0, 0, 0, 0)
NO_ALLOWANCE: Final = AllowanceFacts(NONE, "", NONE, 0, 0, 0, 0)
