"""A price offer, format `weightproof/prices@1`: what calls of one model cost, what may come off.

What a node asks for one call follows from its request and this; what it charges, from this, the
measured usage and the payer's own standing. A receipt of format 2 names the offer by its digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, TypeAlias

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
from inference.receipt_format import Network

Unit: TypeAlias = Annotated[str, TextKind(r"calls|amount|none")]


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

    @cached_property
    def digest(self) -> bytes:
        """The sha256 of its canonical bytes, by which receipts name it."""
        return hashlib.sha256(self.encode()).digest()
