"""The book of plans: what was spent, and what is left of coupons, trials and subscriptions.

Every method takes the transaction it works in: the one that writes the call's charge and receipt.
So nothing is set aside beforehand. A call that fails uses nothing; of calls at once, those that
end first get what is left, and the others cost what their payers signed for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Row, func, select

from inference import schema
from inference.payments.plans import (
    DAY_S,
    Allowance,
    Discount,
    Due,
    Plans,
    Subscription,
    Trial,
    discount,
    due,
)


@dataclass(frozen=True)
class Claimed:
    """What a call may draw on beside what its payer has already.

    `coupon` came with it; `bearer` says that it names no wallet. `may_try`: its payer fulfils the
    trial's conditions.
    """

    coupon: Allowance | None = None
    bearer: bool = False
    may_try: bool = False


@dataclass(frozen=True)
class PlanBook:
    """Applies `plans` to calls as they are booked."""

    plans: Plans

    @cached_property
    def is_plain(self) -> bool:
        """Whether there is no plan: what is charged is the list price, and nothing is noted."""
        return self.plans == Plans()

    def take(
        self, tx: Connection, payer: str, model: str, listed: int, claimed: Claimed, *, at: int
    ) -> Due:
        """Return what a call of list price `listed` costs now, and note what it used.

        `model` is the name it is sold under, `at` the unix second its receipt will state.
        """
        spent = self._spent(tx, payer, at)
        off = discount(self.plans, payer, spent=spent, at=at)
        pots = {pot.allowance.id: pot for pot in self._open(tx, payer, model, claimed, at)}
        result = due(listed, off, [pot.allowance for pot in pots.values()], at=at)
        if result.allowance is not None:
            pots[result.allowance.id].use(tx, result.allowance.taken(result.covered), at=at)
        self.spend(tx, payer, result.charged, at=at)
        return result

    def list_price(self, tx: Connection, payer: str, listed: int, *, at: int) -> Due:
        """Return the full price as what is due, and count it: no plan takes anything off it."""
        off = Discount()
        if self.plans.tiers:
            since, until = self.plans.tiers.period(at)
            off = Discount(since=since, until=until, spent=self._spent(tx, payer, at))
        self.spend(tx, payer, listed, at=at)
        return Due(listed, off)

    def spend(self, tx: Connection, payer: str, charged: int, *, at: int) -> None:
        """Count a charge towards the payer's tier."""
        if not self.plans.tiers:
            return
        since, until = self.plans.tiers.period(at)
        table = schema.spending
        key = (table.c.payer == payer) & (table.c.since == since) & (table.c.until == until)
        before = tx.execute(select(table.c.spent).where(key)).scalar()
        if before is None:
            row = {"payer": payer, "since": since, "until": until, "spent": charged}
            tx.execute(table.insert(), row)
        else:
            tx.execute(table.update().where(key).values(spent=before + charged))

    def sell(
        self, tx: Connection, payer: str, offer: Subscription, *, id: str, at: int
    ) -> Allowance:
        """Begin a subscription that was paid for; `id` names it for ever."""
        until = at + offer.days * DAY_S
        bought = Allowance("subscription", id, offer.unit, offer.limit, 0, until)
        _Pot(bought, payer, offer.name, known=False).use(tx, bought, at=at)
        return bought

    def known(self, tx: Connection, id: str) -> Allowance | None:
        """Return an allowance that was used or bought."""
        row = tx.execute(select(schema.allowances).where(schema.allowances.c.id == id)).first()
        return None if row is None else _allowance(row)

    def may_begin_trial(self, tx: Connection, trial: Trial) -> bool:
        """Return whether one more wallet may try."""
        table = schema.allowances
        ours = (table.c.kind == "trial") & (table.c.name == trial.name)
        count = tx.execute(select(func.count()).select_from(table).where(ours)).scalar_one()
        return int(count) < trial.wallets

    def _spent(self, tx: Connection, payer: str, at: int) -> int:
        if not self.plans.tiers:
            return 0
        since, until = self.plans.tiers.period(at)
        table = schema.spending
        key = (table.c.payer == payer) & (table.c.since == since) & (table.c.until == until)
        return tx.execute(select(table.c.spent).where(key)).scalar() or 0

    def _open(
        self, tx: Connection, payer: str, model: str, claimed: Claimed, at: int
    ) -> Sequence[_Pot]:
        """Return what the payer can draw on, in this order: coupon, subscriptions, trial."""
        found: list[_Pot] = []
        if claimed.coupon is not None:
            owner = "" if claimed.bearer else payer
            found.append(self._pot(tx, claimed.coupon, owner, ""))
        if self.plans.subscriptions:
            table = schema.allowances
            own = (table.c.payer == payer) & (table.c.kind == "subscription")
            rows = tx.execute(
                select(table).where(own & (table.c.until > at)).order_by(table.c.created_at)
            )
            found += [
                _Pot(_allowance(row), payer, row.name, known=True)
                for row in rows
                if self._holds(row.name, model)
            ]
        trial = self.plans.trial
        if trial is not None and claimed.may_try:
            fresh = Allowance("trial", trial_id(trial, payer), trial.unit, trial.limit, 0, 0)
            pot = self._pot(tx, fresh, payer, trial.name)
            if pot.known or self.may_begin_trial(tx, trial):
                found.append(pot)
        return found

    def _pot(self, tx: Connection, fresh: Allowance, owner: str, name: str) -> _Pot:
        known = self.known(tx, fresh.id)
        return _Pot(known or fresh, owner, name, known=known is not None)

    def _holds(self, name: str, model: str) -> bool:
        # One that is not sold any more was paid for all the same: it holds for every model.
        offer = self.plans.subscription(name)
        return offer is None or offer.holds_for(model)


@dataclass(frozen=True)
class _Pot:
    """An allowance, whose it is, and whether it has a row already."""

    allowance: Allowance
    owner: str
    name: str
    known: bool

    def use(self, tx: Connection, after: Allowance, *, at: int) -> None:
        """Write down what is left of it."""
        table = schema.allowances
        if self.known:
            tx.execute(table.update().where(table.c.id == after.id).values(used=after.used))
            return
        values = {
            "id": after.id,
            "kind": after.kind,
            "name": self.name,
            "payer": self.owner,
            "unit": after.unit,
            "quota": after.limit,
            "used": after.used,
            "until": after.until,
            "created_at": at,
        }
        tx.execute(table.insert(), values)


def trial_id(trial: Trial, payer: str) -> str:
    """Return the id of a wallet's trial."""
    return f"trial_{trial.name}_{payer}"


def _allowance(row: Row[Any]) -> Allowance:
    return Allowance(row.kind, row.id, row.unit, row.quota, row.used, row.until)
