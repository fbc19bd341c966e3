"""The node's price offers: made of its settings, signed, and kept as long as receipts name them.

An offer holds until a stated second. Whoever pays with one that still holds is charged by it, also
when the price has changed meanwhile; the offer need not be kept by the payer, only named.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection, select

from inference import schema
from inference.audit.document import FormatError
from inference.database import Database
from inference.payments.plans import Plans, Subscription
from inference.payments.pricing import Price
from inference.price_facts import PriceOffer, RateFacts, SubscriptionFacts, TierFacts, TrialFacts
from registry.errors import SignatureError
from registry.signing.canonical import JsonObject
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

# How long an offer holds at the least, in seconds; all made within one such time end together.
VALID_S: Final = 600
OFFER_STRUCT: Final = Struct("PriceOffer", {"offerDigest": "bytes32", "validUntil": "uint64"})
# The name of the extension in 402 answers, and of what payments send back.
EXTENSION: Final = "weightproof"
_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "prices": {"type": "string"},
        "offerDigest": {"type": "string"},
        "validUntil": {"type": "integer"},
        "signature": {"type": "string"},
    },
    "required": ["prices", "offerDigest", "validUntil", "signature"],
}


@dataclass(frozen=True, eq=False)
class Shop:
    """Makes the offers of a node; `chain_id` and the node's address bind their signatures."""

    signer: Signer
    chain_id: int
    asset: str
    plans: Plans
    database: Database
    _kept: dict[bytes, PriceOffer] = field(default_factory=dict, repr=False)

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of its signatures."""
        return offer_domain(self.chain_id, self.signer.address)

    def offer(self, model: str, model_id: bytes, price: Price, exact: Price) -> PriceOffer:
        """Return the offer of a model."""
        return _offer(self, model, model_id, price, exact)

    def keep(self, offer: PriceOffer) -> None:
        """Write an offer down before anything is sold by it; waits for the disk."""
        digest = offer.digest
        row = {
            "digest": _text(digest),
            "body": offer.encode().decode(),
            "kept_at": int(time.time()),
        }

        def write(tx: Connection) -> None:
            if _find(tx, digest) is None:
                tx.execute(schema.price_offers.insert(), row)

        self.database.write_now(write)
        self._kept[digest] = offer

    def find(self, digest: bytes) -> PriceOffer | None:
        """Return an offer that was kept."""
        return self._kept.get(digest) or self.database.read(lambda tx: _find(tx, digest))

    def signed(self, offer: PriceOffer, *, now: int) -> JsonObject:
        """Return the node's word that the offer holds until a unix second."""
        return _signed(self, offer.digest, now - now % VALID_S + 2 * VALID_S)

    def extension(self, offer: PriceOffer, url: str, *, now: int) -> dict[str, object]:
        """Return what a 402 shows of the offer, in few bytes: clients send it back."""
        return {"info": {"prices": url, **self.signed(offer, now=now)}, "schema": _SCHEMA}

    def replaced(
        self, extensions: Mapping[str, object], *, by: PriceOffer, now: int
    ) -> PriceOffer | None:
        """Return the offer that a payment names, if it is another of ours and still holds."""
        match extensions.get(EXTENSION):
            case {
                "info": {
                    "offerDigest": str(digest),
                    "validUntil": int(valid_until),
                    "signature": str(signature),
                }
            } if digest != _text(by.digest) and now < valid_until < 2**53:
                pass
            case _:
                return None
        try:
            raw, word = bytes.fromhex(digest[2:]), bytes.fromhex(signature[2:])
            values = {"offerDigest": raw, "validUntil": valid_until}
            signer = recover(OFFER_STRUCT.digest(self.domain.separator(), values), word)
        except (ValueError, SignatureError):
            return None
        return self.find(raw) if signer == self.signer.address else None


def offer_domain(chain_id: int, node: str) -> Domain:
    """Return the EIP-712 domain of price offers of the node with that address."""
    return Domain("Weightproof prices", "1", chain_id, node)


def price_of_rate(rate: RateFacts) -> Price:
    """Return the price that an offer states."""
    return Price(**{name: getattr(rate, name) for name in RateFacts.FIELDS})


def _find(tx: Connection, digest: bytes) -> PriceOffer | None:
    table = schema.price_offers
    body = tx.execute(select(table.c.body).where(table.c.digest == _text(digest))).scalar()
    if body is None:
        return None
    try:
        return PriceOffer.from_json(json.loads(body))
    except FormatError:  # of a format that a newer program wrote
        return None


def _text(digest: bytes) -> str:
    return "0x" + digest.hex()


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
def _signed(shop: Shop, digest: bytes, valid_until: int) -> JsonObject:
    values = {"offerDigest": digest, "validUntil": valid_until}
    signature = shop.signer.sign_digest(OFFER_STRUCT.digest(shop.domain.separator(), values))
    return {
        "offerDigest": _text(digest),
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
