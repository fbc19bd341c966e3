"""An offer that was signed holds until it ends, and nothing else does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.audit.document import FormatError
from inference.database import Database
from inference.payments.plans import Plans, Subscription, Tier, Tiers, Trial
from inference.payments.pricing import Price
from inference.price_facts import PriceOffer
from inference.price_offer import EXTENSION, VALID_S, Shop, price_of_rate
from tests.inference.receipt_samples import ANCHOR, ASSET, CHAIN_ID, NODE, STRANGER

PLANS = Plans(
    tiers=Tiers(30, (Tier(1_000, 50),)),
    trial=Trial("launch", "calls", 5, min_balance=7),
    subscriptions=(
        Subscription("month", 9, 30, "calls", 10, ("small",)),
        Subscription("other", 9, 30, "calls", 10, ("large",)),
    ),
)
OLD, NEW = Price(100, 1, 2), Price(200, 1, 2, per_second=3, most_seconds=4)
NOW = 1_800_000_000
URL = "http://node/v1/prices"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path) as database:
        yield Shop(NODE, CHAIN_ID, ASSET, PLANS, database)


def opened(folder: Path) -> Database:
    url = f"sqlite:///{folder}/node.db"
    return Database(url, chain_id=CHAIN_ID, channels=ANCHOR, node=NODE.address)


def offer(shop: Shop, price: Price) -> PriceOffer:
    return shop.offer("small", b"\x01" * 32, price, price)


def named(shop: Shop, price: Price, *, at: int = NOW, **changes: Any) -> dict[str, object]:
    shown = shop.extension(offer(shop, price), URL, now=at)
    info = shown["info"]
    assert isinstance(info, dict)
    return {EXTENSION: {"info": {**info, **changes}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"validUntil": NOW + 10**6},
        {"validUntil": str(NOW)},
        {"signature": "0x" + "00" * 65},
        {"signature": "0x12"},
        {"signature": 1},
        {"offerDigest": "0x" + "00" * 32},
        {"offerDigest": "0x12"},
        {"offerDigest": "hello"},
    ],
    ids=str,
)
def test_an_offer_that_was_changed_does_not_hold(shop: Shop, changes: dict[str, Any]) -> None:
    shop.keep(offer(shop, OLD))
    extensions = named(shop, OLD, **changes)
    assert shop.replaced(extensions, by=offer(shop, NEW), now=NOW) is None


@pytest.mark.parametrize("extensions", [{}, {EXTENSION: 1}, {EXTENSION: {"info": []}}], ids=str)
def test_what_names_no_offer_is_as_if_it_were_not_there(
    shop: Shop, extensions: dict[str, object]
) -> None:
    assert shop.replaced(extensions, by=offer(shop, NEW), now=NOW) is None


def test_an_offer_signed_by_somebody_else_does_not_hold(shop: Shop) -> None:
    other = Shop(STRANGER, CHAIN_ID, ASSET, PLANS, shop.database)
    shop.keep(offer(shop, OLD))
    word = other.signed(offer(shop, OLD), now=NOW)
    assert shop.replaced(named(shop, OLD, **word), by=offer(shop, NEW), now=NOW) is None


def test_an_offer_holds_until_it_ends_also_after_a_restart(shop: Shop, tmp_path: Path) -> None:
    shop.keep(offer(shop, OLD))
    shop.keep(offer(shop, OLD))
    extensions = named(shop, OLD)
    shop.database.close()
    with opened(tmp_path) as database:
        again = Shop(NODE, CHAIN_ID, ASSET, PLANS, database)
        present = offer(again, NEW)
        held = again.replaced(extensions, by=present, now=NOW + VALID_S)
        assert held == offer(shop, OLD)
        assert price_of_rate(held.price) == OLD
        assert again.replaced(extensions, by=present, now=NOW + 2 * VALID_S) is None
        assert again.replaced(extensions, by=held, now=NOW) is None


def test_an_offer_of_another_time_is_signed_once_and_holds_for_a_while(shop: Shop) -> None:
    first = shop.signed(offer(shop, OLD), now=NOW)
    assert shop.signed(offer(shop, OLD), now=NOW + VALID_S - 1 - NOW % VALID_S) is first
    until = first["validUntil"]
    assert isinstance(until, int)
    assert VALID_S < until - NOW <= 2 * VALID_S


def test_an_offer_says_all_that_its_model_has_and_comes_back(shop: Shop) -> None:
    made = offer(shop, NEW)
    assert [one.name for one in made.subscriptions] == ["month"]
    assert (made.tier_days, made.trial.limit, made.price.most_seconds) == (30, 5, 4)
    assert PriceOffer.from_json(made.to_json()) == made
    assert price_of_rate(made.price) == NEW
    with pytest.raises(FormatError, match=re.escape("price.perCall")):
        PriceOffer.from_json(made.to_json() | {"price": made.price.to_json() | {"perCall": 1}})
    bare = replace(shop, plans=Plans())
    assert offer(bare, NEW).digest != made.digest
