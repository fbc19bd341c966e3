"""`POST /v1/subscriptions`: a period of calls, bought at once as any call is paid.

The body names what is bought, and a model of this node that it shall hold for; the receipt says
until when it holds, and its place in the log is the subscription's name for ever.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from inference.api.read_work import ReadWork
from inference.api.schemas import Name, StrictBody
from inference.catalog import CatalogEntry
from inference.errors import RequestError
from inference.payments.plans import Plans, Subscription
from inference.payments.pricing import Price
from inference.work import Sells

PATH: Final = "/v1/subscriptions"


class SubscriptionRequest(StrictBody):
    """What is bought: a subscription by its name, for a model that it holds for."""

    model: Name
    name: Name


class SubscriptionWork(ReadWork, Sells):
    """A `Work` that asks no engine: what it sells is the right to ask later."""

    def __init__(self, entry: CatalogEntry, offer: Subscription) -> None:
        super().__init__(0, ())
        self._entry = entry
        self.offer = offer
        self.price = Price(offer.price, 0, 0)

    async def perform(self) -> AsyncGenerator[bytes, None]:
        """Yield what was bought; since when and until when says the receipt."""
        yield json.dumps(
            {
                "object": "subscription",
                "name": self.offer.name,
                "model": self._entry.name,
                "days": self.offer.days,
                self.offer.unit: self.offer.limit,
            }
        ).encode()


def seller(
    plans: Plans,
) -> Callable[[CatalogEntry, SubscriptionRequest], Awaitable[SubscriptionWork]]:
    """Return what makes the work of a request."""

    async def prepare(entry: CatalogEntry, ask: SubscriptionRequest) -> SubscriptionWork:
        offer = plans.subscription(ask.name)
        sold = ", ".join(one.name for one in plans.subscriptions)
        if offer is None:
            raise RequestError(f"name: no subscription {ask.name!r:.40} here: {sold}", param="name")
        if not offer.holds_for(entry.name):
            raise RequestError(f"model: {offer.name} does not hold for {entry.name}", param="model")
        return SubscriptionWork(entry, offer)

    return prepare
