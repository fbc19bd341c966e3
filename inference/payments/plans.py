"""Plans: what a payer need not pay of a call's list price, as pure arithmetic.

The offer asks for the list price and never depends on who asks, so it comes out the same however
a payer's standing changes between the offer and the payment. The plan lowers the charge, when the
call is booked:

1. a discount: the larger of the payer's own and that of the tier its spending has reached
2. an allowance: a coupon, a subscription or a trial covers the rest, or a part of it

`exact` moves its quote on chain before anything is booked: plans take nothing off it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from inference.errors import NodeError
from inference.payments.pricing import discounted

Unit: TypeAlias = Literal["calls", "amount"]
Kind: TypeAlias = Literal["coupon", "subscription", "trial", "purchase"]

DAY_S: Final = 86_400
TIER: Final = "tier"
CONTRACT: Final = "contract"
NONE: Final = "none"


@dataclass(frozen=True)
class Tier:
    """From `spent` atomic units in the period on, `permille` thousandths off."""

    spent: int
    permille: int


@dataclass(frozen=True)
class Tiers:
    """Volume tiers, lowest first; periods of `days` follow one another since 1970."""

    days: int = 0
    steps: tuple[Tier, ...] = ()

    def period(self, at: int) -> tuple[int, int]:
        """Return the period that unix second `at` lies in: its first second and the next one's."""
        length = self.days * DAY_S
        since = at - at % length
        return since, since + length

    def permille(self, spent: int) -> int:
        """Return what whoever has spent this much in the period gets off."""
        return max((step.permille for step in self.steps if spent >= step.spent), default=0)

    def __bool__(self) -> bool:
        return bool(self.steps)


@dataclass(frozen=True)
class Contract:
    """What was agreed with one payer: `permille` off until a unix second, 0 for no end."""

    payer: str
    permille: int
    until: int = 0


@dataclass(frozen=True)
class Trial:
    """`limit` calls, or an amount of list price, free for each wallet that may try.

    Those are the wallets of `allow` and those that hold `min_balance` of the token they would pay
    in; at most `wallets` in all. `name` tells campaigns apart.
    """

    name: str
    unit: Unit
    limit: int
    allow: frozenset[str] = frozenset()
    min_balance: int = 0
    wallets: int = 1000


@dataclass(frozen=True)
class Subscription:
    """What is sold for `price`: `days` in which calls cost nothing until `limit` is used.

    It holds for the models named, all if none is.
    """

    name: str
    price: int
    days: int
    unit: Unit
    limit: int
    models: tuple[str, ...] = ()

    def holds_for(self, model: str) -> bool:
        """Return whether calls of a model of this name are part of it."""
        return not self.models or model in self.models


@dataclass(frozen=True)
class Plans:
    """All that a node takes off its list prices. Without any, charges are list prices."""

    tiers: Tiers = field(default_factory=Tiers)
    contracts: tuple[Contract, ...] = ()
    trial: Trial | None = None
    subscriptions: tuple[Subscription, ...] = ()

    def contract(self, payer: str, at: int) -> int:
        """Return what was agreed with a payer, in thousandths off, at unix second `at`."""
        return next(
            (
                c.permille
                for c in self.contracts
                if c.payer == payer and (not c.until or at < c.until)
            ),
            0,
        )

    def subscription(self, name: str) -> Subscription | None:
        """Return what is sold under a name."""
        return next((one for one in self.subscriptions if one.name == name), None)


@dataclass(frozen=True)
class Allowance:
    """Calls, or an amount, that somebody need not pay: `used` of `limit`, until a unix second.

    `until` 0 is no end. Its `id` is told in receipts: all uses of it add up.
    """

    kind: Kind
    id: str
    unit: Unit
    limit: int
    used: int
    until: int

    def covers(self, amount: int) -> int:
        """Return how much of `amount` it pays for."""
        if self.used >= self.limit:
            return 0
        return amount if self.unit == "calls" else min(amount, self.limit - self.used)

    def taken(self, covered: int) -> Allowance:
        """Return what is left after a call of which it paid `covered`."""
        used = self.used + (1 if self.unit == "calls" else covered)
        if used > self.limit:
            raise NodeError(f"allowance {self.id} has {self.limit - self.used} left")
        return replace(self, used=used)

    def open(self, at: int) -> bool:
        """Return whether something is left at unix second `at`."""
        return self.used < self.limit and (not self.until or at < self.until)


@dataclass(frozen=True)
class Discount:
    """What is taken off first, and why: `by` is tier, contract or none.

    `since` and `until` are the period of the tiers, `spent` what the payer was charged in it
    before, `step` the spending from which the tier counts; all 0 where there are no tiers.
    """

    by: str = NONE
    permille: int = 0
    since: int = 0
    until: int = 0
    spent: int = 0
    step: int = 0


@dataclass(frozen=True)
class Due:
    """What a call costs its payer, and how that came about; amounts in atomic units.

    `allowance` is as it was before the call, which used `covered` of its amount.
    """

    listed: int
    discount: Discount = field(default_factory=Discount)
    allowance: Allowance | None = None
    covered: int = 0

    @property
    def charged(self) -> int:
        """What is left to pay."""
        return discounted(self.listed, self.discount.permille) - self.covered


def discount(plans: Plans, payer: str, *, spent: int, at: int) -> Discount:
    """Return the discount of a payer that was charged `spent` in the tiers' period of `at`."""
    agreed, tiers = plans.contract(payer, at), plans.tiers
    if not tiers:
        return Discount(CONTRACT, agreed) if agreed else Discount()
    since, until = tiers.period(at)
    reached = tiers.permille(spent)
    if agreed > reached:
        return Discount(CONTRACT, agreed, since, until, spent)
    step = max((s.spent for s in tiers.steps if spent >= s.spent), default=0)
    return Discount(TIER if reached else NONE, reached, since, until, spent, step)


def due(listed: int, off: Discount, allowances: Sequence[Allowance], *, at: int) -> Due:
    """Return what a call of list price `listed` costs; the first open allowance covers it."""
    left = discounted(listed, off.permille)
    for allowance in allowances:
        if left and allowance.open(at):
            return Due(listed, off, allowance, allowance.covers(left))
    return Due(listed, off)
