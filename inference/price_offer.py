"""A price offer: what calls of one model cost, and what everybody may get off. Pure, and signed.

What a node asks for one call follows from its request and this; what it charges, from this, the
measured usage and the payer's own standing. A receipt of format 2 names the offer by its digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Final

from inference.audit.document import (
    Address,
    Amount,
    Count,
    Digest,
    Document,
    ListKind,
    Text,
    TextKind,
)
from inference.payments.plans import Plans, Subscription
from inference.payments.pricing import Price
from inference.receipt_format import Network
from registry.signing.canonical import JsonObject
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain, Struct

# How long an offer holds at the least, in seconds; all made within one such time end together.
VALID_S: Final = 600
Unit = Annotated[str, TextKind(r"calls|amount|none")]
OFFER_STRUCT: Final = Struct("PriceOffer", {"offerDigest": "bytes32", "validUntil": "uint64"})


@dataclass(frozen=True)
class RateFacts(Document):
    """A price in atomic units; of the seconds a call computes, at most `most_seconds` count."""

    per_call: Amount
    input_per_million: Amount
    output_per_million: Amount
    per_second: Amount
    most_seconds: Count


@dataclass(frozen=True)
class TierFacts(Document):
    """From `spent` atomic units in the period on, `permille` thousandths off."""

    spent: Amount
    permille: Count


@dataclass(frozen=True)
class TrialFacts(Document):
    """What a wallet may try, that is on the operator's list or holds `min_balance` of the token."""

    name: Text
    unit: Unit
    limit: Amount
    min_balance: Amount


@dataclass(frozen=True)
class SubscriptionFacts(Document):
    """What is sold for `price`: `days` in which calls cost nothing until `limit` is used."""

    name: Text
    price: Amount
    days: Count
    unit: Unit
    limit: Amount


@dataclass(frozen=True)
class PriceOffer(Document):
    """What a model's calls cost; `exact` is the price of answers that depend on the call alone.

    The periods of the tiers are of `tier_days`, one after another since 1970, in UTC.
    """

    FORMAT: ClassVar[str] = "weightproof/prices@1"

    node: Address
    network: Network
    asset: Address
    model: Text
    model_id: Digest
    price: RateFacts
    exact: RateFacts
    tier_days: Count
    tiers: Annotated[tuple[TierFacts, ...], ListKind(TierFacts, 16)]
    trial: TrialFacts
    subscriptions: Annotated[tuple[SubscriptionFacts, ...], ListKind(SubscriptionFacts, 100)]

    def digest(self) -> bytes:
        """Return sha256 of the canonical bytes, by which receipts name it."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, eq=False)
class Shop:
    """Makes the offers of a node; `chain_id` and the node's address bind their signatures."""

    signer: Signer
    chain_id: int
    asset: str
    plans: Plans

    def offer(self, model: str, model_id: bytes, price: Price, exact: Price) -> PriceOffer:
        """Return the offer of a model."""
        return _offer(self, model, model_id, price, exact)

    def digest(self, model: str, model_id: bytes, price: Price, exact: Price) -> bytes:
        """Return the digest of a model's offer."""
        return _digest(self.offer(model, model_id, price, exact))

    def signed(self, offer: PriceOffer, *, now: int) -> JsonObject:
        """Return the offer with the node's word that it holds until a unix second."""
        return _signed(self, offer, now - now % VALID_S + 2 * VALID_S)


def offer_domain(chain_id: int, node: str) -> Domain:
    """Return the EIP-712 domain of price offers of the node with that address."""
    return Domain("Weightproof prices", "1", chain_id, node)


@lru_cache(maxsize=256)
def _offer(shop: Shop, model: str, model_id: bytes, price: Price, exact: Price) -> PriceOffer:
    trial = shop.plans.trial
    return PriceOffer(
        node=shop.signer.address,
        network=f"eip155:{shop.chain_id}",
        asset=shop.asset,
        model=model,
        model_id=model_id,
        price=_rate(price),
        exact=_rate(exact),
        tier_days=shop.plans.tiers.days,
        tiers=tuple(TierFacts(step.spent, step.permille) for step in shop.plans.tiers.steps),
        trial=TrialFacts("", "none", 0, 0)
        if trial is None
        else TrialFacts(trial.name, trial.unit, trial.limit, trial.min_balance),
        subscriptions=tuple(
            _subscription(one) for one in shop.plans.subscriptions if one.holds_for(model)
        ),
    )


@lru_cache(maxsize=256)
def _digest(offer: PriceOffer) -> bytes:
    return offer.digest()


@lru_cache(maxsize=256)
def _signed(shop: Shop, offer: PriceOffer, valid_until: int) -> JsonObject:
    domain = offer_domain(shop.chain_id, shop.signer.address)
    values = {"offerDigest": _digest(offer), "validUntil": valid_until}
    signature = shop.signer.sign_digest(OFFER_STRUCT.digest(domain.separator(), values))
    return {
        "offer": offer.to_json(),
        "offerDigest": "0x" + _digest(offer).hex(),
        "validUntil": valid_until,
        "signature": "0x" + signature.hex(),
    }


def _rate(price: Price) -> RateFacts:
    return RateFacts(
        price.per_call,
        price.input_per_million,
        price.output_per_million,
        price.per_second,
        price.most_seconds,
    )


def _subscription(one: Subscription) -> SubscriptionFacts:
    return SubscriptionFacts(one.name, one.price, one.days, one.unit, one.limit)
