"""Does a receipt keep to the price offer that it names? Pure: one receipt against one offer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from inference.price_facts import PriceOffer, RateFacts
from inference.receipt_format import Receipt
from inference.receipt_plan import CONTRACT, NONE, PURCHASE, TRIAL, DiscountFacts, PlanFacts

_DAY_S: Final = 86_400
_MS: Final = 1000


def offer_fault(offer: PriceOffer, receipt: Receipt, plan: PlanFacts) -> str:
    """Return what in a receipt is against the offer, or nothing."""
    return next(_faults(offer, receipt, plan), "")


def _faults(offer: PriceOffer, receipt: Receipt, plan: PlanFacts) -> Iterator[str]:
    stated = (offer.node, offer.network, offer.asset, offer.model_id)
    payment = receipt.payment
    if stated != (receipt.node, payment.network, payment.asset, receipt.model.model_id):
        yield "its price offer is of another node, network, token or model"
    is_purchase = plan.allowance.kind == PURCHASE
    if is_purchase:
        yield from _purchase(offer, receipt, plan)
    elif _rate(receipt, plan) not in (offer.price, offer.exact):
        yield "its price is none of those offered"
    yield from _period(offer, plan.discount)
    if payment.scheme == "exact" or is_purchase:
        if plan.discount.permille or plan.allowance.kind not in (NONE, PURCHASE):
            yield "something was taken off where nothing is"
    else:
        yield from _discount(offer, plan.discount)
    # A wallet keeps the trial it began: the limit may have been another one then.
    if plan.allowance.kind == TRIAL and offer.trial.unit == NONE:
        yield "a trial was used that is not offered"


def _rate(receipt: Receipt, plan: PlanFacts) -> RateFacts:
    price, time = receipt.payment.price, plan.time
    return RateFacts(
        price.per_call,
        price.input_per_million,
        price.output_per_million,
        time.per_second,
        time.most_ms // _MS,
    )


def _purchase(offer: PriceOffer, receipt: Receipt, plan: PlanFacts) -> Iterator[str]:
    bought, seconds = plan.allowance, plan.allowance.until - receipt.served_at
    terms = {(s.price, s.unit, s.limit, s.days * _DAY_S) for s in offer.subscriptions}
    if (plan.listed, bought.unit, bought.limit, seconds) not in terms:
        yield "a subscription was sold that is not offered"


def _period(offer: PriceOffer, off: DiscountFacts) -> Iterator[str]:
    if not offer.tiers:
        if off.until:
            yield "the receipt states a tiers' period, the offer has no tiers"
        return
    length = offer.tier_days * _DAY_S
    if off.until - off.since != length or off.since % length:
        yield f"the tiers' period is not one of {offer.tier_days} days"


def _discount(offer: PriceOffer, off: DiscountFacts) -> Iterator[str]:
    reached = [tier for tier in offer.tiers if off.spent >= tier.spent]
    best = max((tier.permille for tier in reached), default=0)
    if off.permille < best or (off.by != CONTRACT and off.permille != best):
        yield f"{off.permille} thousandths off, the tiers give {best}"
    elif off.by != CONTRACT and off.step != max((tier.spent for tier in reached), default=0):
        yield f"the tier does not begin at {off.step}"
