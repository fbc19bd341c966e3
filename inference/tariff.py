"""The tariff: what a call is charged of its list price, for its payer.

Where the node has no plans, this costs a call nothing: no row is read, no chain is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from inference.catalog import CatalogEntry
from inference.coupon import Coupon, CouponGuard, CouponRefusedError
from inference.database import Database
from inference.payments.plan_book import Claimed, PlanBook
from inference.payments.plans import Allowance, Due
from inference.payments.pricing import Price, Usage, charge
from inference.payments.x402 import PaymentPayload
from inference.price_facts import PriceOffer
from inference.price_offer import EXTENSION, Shop, price_of_rate
from inference.receipt_plan import (
    NO_ALLOWANCE,
    PURCHASE,
    AllowanceFacts,
    DiscountFacts,
    PlanFacts,
    TimeFacts,
)
from inference.trial_door import TrialDoor
from inference.work import Sells, Work, is_exact

_EXACT: Final = "exact"
_NOTHING: Final = Claimed()


@dataclass(frozen=True)
class Rate:
    """The price of one call, and the offer that states it; `is_replaced` by another since."""

    price: Price
    offer: PriceOffer
    is_replaced: bool = False


@dataclass(frozen=True)
class Bill:
    """What a served call costs; `plan` is what its receipt states beside the list price."""

    charged: int
    plan: PlanFacts | None = None


@dataclass(frozen=True)
class Tariff:
    """Applies a node's prices and plans. `public_url` is where its offers are shown."""

    book: PlanBook
    coupons: CouponGuard
    shop: Shop
    database: Database
    trials: TrialDoor
    public_url: str

    def coupon(self, header: str, *, model: str, work: Work) -> Coupon | None:
        """Return the coupon that came with a call. Raises `CouponRefusedError`."""
        if not header:
            return None
        if isinstance(work, Sells):
            raise CouponRefusedError("a coupon does not buy a subscription; nothing was charged")
        return self.coupons.read(header, model=model, now=int(time.time()))

    def offer(self, entry: CatalogEntry) -> PriceOffer:
        """Return what is offered for a model now."""
        exact = entry.exact_price or entry.price
        return self.shop.offer(entry.name, entry.verified.model_id, entry.price, exact)

    def shown(self, rate: Rate, payment: PaymentPayload | None) -> Mapping[str, object]:
        """Return the extension of a 402 that names what is offered; from memory.

        A payment under an offer that was replaced is shown its own again: it ends when it said.
        """
        if payment is not None and rate.is_replaced:
            return {EXTENSION: payment.extensions[EXTENSION]}
        url, now = f"{self.public_url}/v1/prices", int(time.time())
        return {EXTENSION: self.shop.extension(rate.offer, url, now=now)}

    def rate(self, entry: CatalogEntry, work: Work, payment: PaymentPayload | None) -> Rate:
        """Return the price of a piece of work, pure of who asks, and the offer it comes from.

        A payment may name an offer that still holds and was replaced meanwhile.
        """
        present = self.offer(entry)
        if payment is not None and EXTENSION in payment.extensions and not isinstance(work, Sells):
            now = int(time.time())
            named = self.shop.replaced(payment.extensions, by=present, now=now)
            # Its price holds; plans are those of now, so it must have named the same.
            if named is not None and _is_of(named, entry) and _same_plans(named, present):
                rate = named.exact if is_exact(work) else named.price
                return Rate(price_of_rate(rate), named, is_replaced=True)
        return Rate(entry.price_for(work), present)

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
        may_try = await self.trials.may_try(payer)
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
        *,
        payer: str,
        entry: CatalogEntry,
        rate: Rate,
        scheme: str,
        claimed: Claimed,
        seq: int,
        at: int,
    ) -> Bill:
        """Return what a served call costs, and note what it used; step 8 of a paid call.

        To be called once the call's place `seq` in the log is fixed: what is spent and used adds
        up in the log's order. `at` is the unix second that the receipt states.
        """
        usage, price = work.usage, rate.price
        if scheme == _EXACT:
            usage = Usage(work.input_tokens, work.max_output_tokens, price.most_ms)
        listed = charge(price, usage)
        by_list = self.book.is_plain and claimed == _NOTHING and not isinstance(work, Sells)
        if by_list and not price.per_second:
            return Bill(listed)
        bought = NO_ALLOWANCE
        if isinstance(work, Sells) or scheme == _EXACT:
            due = self.book.list_price(tx, payer, listed, at=at)
            if isinstance(work, Sells):
                sold = self.book.sell(tx, payer, work.offer, id=f"sub_{seq}", at=at)
                bought = _allowance(sold, PURCHASE, 0)
        else:
            due = self.book.take(tx, payer, entry.name, listed, claimed, at=at)
        if not price.per_second and due == Due(listed) and bought == NO_ALLOWANCE:
            return Bill(listed)  # Format 1 of a receipt says all.
        offer = rate.offer.digest
        return Bill(due.charged, _stated(offer, due, price, work.usage, bought))


def _same_plans(one: PriceOffer, other: PriceOffer) -> bool:
    return (one.tier_days, one.tiers, one.trial) == (other.tier_days, other.tiers, other.trial)


def _is_of(offer: PriceOffer, entry: CatalogEntry) -> bool:
    return (offer.model, offer.model_id) == (entry.name, entry.verified.model_id)


def _stated(
    offer: bytes, due: Due, price: Price, usage: Usage, bought: AllowanceFacts
) -> PlanFacts:
    off, allowance = due.discount, bought
    if due.allowance is not None:
        allowance = _allowance(due.allowance, due.allowance.kind, due.covered)
    discount = DiscountFacts(off.by, off.permille, off.since, off.until, off.spent, off.step)
    return PlanFacts(
        offer=offer,
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
