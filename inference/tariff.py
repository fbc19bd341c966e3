"""The tariff: what a call is charged of its list price, for its payer.

Where the node has no plans, this costs a call nothing: no row is read, no chain is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from inference.coupon import Coupon, CouponGuard, CouponRefusedError
from inference.database import Database
from inference.errors import UnavailableError
from inference.payments.plan_book import Claimed, PlanBook, trial_id
from inference.payments.plans import Allowance, Due
from inference.payments.pricing import Price, Usage, charge
from inference.receipt_plan import (
    NO_ALLOWANCE,
    NO_DISCOUNT,
    PURCHASE,
    AllowanceFacts,
    DiscountFacts,
    PlanFacts,
    TimeFacts,
)
from inference.work import Sells, Work
from registry.errors import ChainError

_EXACT: Final = "exact"
_NOTHING: Final = Claimed()


@dataclass(frozen=True)
class Bill:
    """What a served call costs; `plan` is what its receipt states beside the list price."""

    charged: int
    plan: PlanFacts | None = None


@dataclass(frozen=True)
class Tariff:
    """Applies a node's plans. `balance_of` asks the chain how much of the token a wallet has."""

    book: PlanBook
    coupons: CouponGuard
    database: Database
    balance_of: Callable[[str], int]

    def coupon(self, header: str, *, model: str, work: Work) -> Coupon | None:
        """Return the coupon that came with a call. Raises `CouponRefusedError`."""
        if not header:
            return None
        if isinstance(work, Sells):
            raise CouponRefusedError("a coupon does not buy a subscription; nothing was charged")
        return self.coupons.read(header, model=model, now=int(time.time()))

    async def claim(self, coupon: Coupon | None, payer: str, *, scheme: str) -> Claimed:
        """Return what a paid call may draw on, before any work is done for it.

        Raises `CouponRefusedError` for a coupon of somebody else or used up, `UnavailableError`
        when the chain must be asked for a wallet's balance and does not answer.
        """
        if coupon is None and self.book.plans.trial is None:
            return _NOTHING
        if scheme == _EXACT:
            if coupon is not None:
                raise CouponRefusedError(
                    "a coupon lowers what a channel is charged; exact pays the quote on chain"
                )
            return _NOTHING
        may_try = await self._may_try(payer)
        if coupon is None:
            return Claimed(may_try=may_try)
        if not coupon.is_bearers and coupon.wallet != payer:
            raise CouponRefusedError(f"the coupon is for {coupon.wallet}; nothing was charged")
        allowance = Allowance(
            kind="coupon",
            id="0x" + coupon.digest(self.coupons.domain).hex(),
            unit="calls" if coupon.unit == "calls" else "amount",
            limit=coupon.limit,
            used=0,
            until=coupon.expires_at,
        )
        known = self.database.read(lambda tx: self.book.known(tx, allowance.id)) or allowance
        if known.used >= known.limit:
            raise CouponRefusedError("the coupon is used up; nothing was charged")
        return Claimed(allowance, coupon.is_bearers, may_try)

    def bill(
        self,
        tx: Connection,
        work: Work,
        price: Price,
        *,
        payer: str,
        model: str,
        scheme: str,
        claimed: Claimed,
        seq: int,
        at: int,
    ) -> Bill:
        """Return what a served call costs, and note what it used; step 8 of a paid call.

        To be called once the call's place `seq` in the log is fixed: what is spent and used adds
        up in the log's order. `at` is the unix second that the receipt states.
        """
        usage = work.usage
        if scheme == _EXACT:
            usage = Usage(work.input_tokens, work.max_output_tokens, price.most_ms)
        listed = charge(price, usage)
        bought = NO_ALLOWANCE
        if isinstance(work, Sells) or scheme == _EXACT:
            due = self.book.list_price(tx, payer, listed, at=at)
            if isinstance(work, Sells):
                sold = self.book.sell(tx, payer, work.offer, id=f"sub_{seq}", at=at)
                bought = _allowance(sold, PURCHASE, 0)
        else:
            due = self.book.take(tx, payer, model, listed, claimed, at=at)
        return Bill(due.charged, _stated(due, price, work.usage, bought))

    async def _may_try(self, payer: str) -> bool:
        trial = self.book.plans.trial
        if trial is None:
            return False
        if payer in trial.allow:
            return True
        if not trial.min_balance:
            return False
        if self.database.read(lambda tx: self.book.known(tx, trial_id(trial, payer))):
            return True  # It was asked when it began: later the tokens may be elsewhere.
        try:
            return await asyncio.to_thread(self.balance_of, payer) >= trial.min_balance
        except ChainError as error:
            raise UnavailableError("the chain does not answer; nothing was charged") from error


def _stated(due: Due, price: Price, usage: Usage, bought: AllowanceFacts) -> PlanFacts | None:
    """Return what format 2 of a receipt states; None where format 1 says all."""
    off, allowance = due.discount, bought
    if due.allowance is not None:
        allowance = _allowance(due.allowance, due.allowance.kind, due.covered)
    discount = DiscountFacts(off.by, off.permille, off.since, off.until, off.spent, off.step)
    if not price.per_second and discount == NO_DISCOUNT and allowance == NO_ALLOWANCE:
        return None
    return PlanFacts(
        listed=due.listed,
        time=TimeFacts(price.per_second, price.most_ms, usage.compute_ms),
        discount=discount,
        allowance=allowance,
    )


def _allowance(allowance: Allowance, kind: str, covered: int) -> AllowanceFacts:
    return AllowanceFacts(
        kind=kind,
        id=allowance.id,
        unit=allowance.unit,
        limit=allowance.limit,
        used=allowance.used,
        covered=covered,
        until=allowance.until,
    )
