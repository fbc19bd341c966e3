"""The settings of prices and plans: tables `price` of a model, and the section `prices`.

::

    [prices.default]               of models without a price of their own: as `models.price`
    per_call = 100                 atomic units of the token, as all amounts
    per_second = 20                of computing
    most_seconds = 60              that are charged: the quote needs a bound
    [prices.tiers]                 volume discounts, by what a payer was charged in the period
    days = 30
    steps = [[1_000_000, 50], [10_000_000, 100]]        from this amount on, thousandths off
    [[prices.contracts]]           what was agreed with one payer
    payer = "0x…"
    permille = 200
    until = 1_800_000_000          unix seconds; without it there is no end
    [prices.trial]                 free calls (or amount) for each wallet that fulfils a condition
    name = "launch"
    calls = 5
    allow = ["0x…"]
    min_balance = 1_000_000        of the token that calls are paid in
    wallets = 1000                 that may try, in all
    [[prices.subscriptions]]       sold at /v1/subscriptions
    name = "month"
    price = 5_000_000
    days = 30
    calls = 10_000                 or amount: of list price
    models = ["smollm2"]
"""

from __future__ import annotations

import re
from typing import Final

from inference.payments.plans import (
    Contract,
    Plans,
    Subscription,
    Tier,
    Tiers,
    Trial,
    Unit,
)
from inference.payments.pricing import MAX_SECONDS, PERMILLE, Price
from registry.config import checked_address
from registry.errors import ConfigError
from registry.section import Section

# A subscription's or a trial's name stands in receipts, and a trial's in the id of its uses.
_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,16}", re.ASCII)
_MAX_DAYS: Final = 366
_MAX_STEPS: Final = 16


def read_price(section: Section) -> Price:
    """Return the price that a table states."""
    return Price(
        per_call=section.integer("per_call", 0),
        input_per_million=section.integer("input_per_million", 0),
        output_per_million=section.integer("output_per_million", 0),
        per_second=section.integer("per_second", 0),
        most_seconds=section.integer("most_seconds", 0, high=MAX_SECONDS),
    )


def read_prices(section: Section) -> tuple[Price, Price | None]:
    """Return the price of a table, and that of exact answers where it has one of its own.

    Raises `ConfigError` that names the setting.
    """
    exact = section.section("exact") if "exact" in section else None
    prices = read_price(section), None if exact is None else read_price(exact)
    for part in (section, exact):
        if part is not None:
            part.finish()
    return prices


def read_plans(section: Section) -> Plans:
    """Return the plans of the section `prices`. Raises `ConfigError` that names the setting."""
    plans = Plans(
        tiers=_tiers(section.section("tiers")) if "tiers" in section else Tiers(),
        contracts=tuple(_contract(part) for part in section.sections("contracts")),
        trial=_trial(section.section("trial")) if "trial" in section else None,
        subscriptions=tuple(_subscription(part) for part in section.sections("subscriptions")),
    )
    section.finish(but=("default",))
    payers = [contract.payer for contract in plans.contracts]
    if len(set(payers)) != len(payers):
        raise ConfigError("prices.contracts: a payer has two")
    names = [offer.name for offer in plans.subscriptions]
    if len(set(names)) != len(names):
        raise ConfigError("prices.subscriptions: two have the same name")
    return plans


def _tiers(section: Section) -> Tiers:
    days = section.integer("days", 30, low=1, high=_MAX_DAYS)
    pairs = section.pairs("steps")
    section.finish()
    if not pairs or len(pairs) > _MAX_STEPS:
        raise ConfigError(f"prices.tiers.steps must have 1 to {_MAX_STEPS} steps")
    before = Tier(0, 0)
    for spent, permille in pairs:
        if spent <= before.spent or not before.permille < permille <= PERMILLE:
            raise ConfigError(
                "prices.tiers.steps must rise: each from a higher amount on, and more off",
                hint=f"thousandths go up to {PERMILLE}",
            )
        before = Tier(spent, permille)
    return Tiers(days, tuple(Tier(spent, permille) for spent, permille in pairs))


def _contract(section: Section) -> Contract:
    contract = Contract(
        payer=checked_address(section.text("payer"), "prices.contracts.payer"),
        permille=section.integer("permille", 0, low=1, high=PERMILLE),
        until=section.integer("until", 0),
    )
    section.finish()
    return contract


def _trial(section: Section) -> Trial:
    unit, limit = _quota(section, "prices.trial")
    trial = Trial(
        name=_name(section.text("name", "trial"), "prices.trial.name"),
        unit=unit,
        limit=limit,
        allow=frozenset(checked_address(a, "prices.trial.allow") for a in section.texts("allow")),
        min_balance=section.integer("min_balance", 0),
        wallets=section.integer("wallets", 1000, low=1),
    )
    section.finish()
    if not trial.allow and not trial.min_balance:
        raise ConfigError(
            "prices.trial needs allow or min_balance: wallets cost nothing to make",
            hint="to give a trial to whom you choose, sign coupons: weightproof coupon",
        )
    return trial


def _subscription(section: Section) -> Subscription:
    unit, limit = _quota(section, "prices.subscriptions")
    offer = Subscription(
        name=_name(section.text("name"), "prices.subscriptions.name"),
        price=section.integer("price", 0, low=1),
        days=section.integer("days", 30, low=1, high=_MAX_DAYS),
        unit=unit,
        limit=limit,
        models=section.texts("models"),
    )
    section.finish()
    return offer


def _quota(section: Section, where: str) -> tuple[Unit, int]:
    """Return what is free: either calls or an amount."""
    calls, amount = section.integer("calls", 0), section.integer("amount", 0)
    if bool(calls) == bool(amount):
        raise ConfigError(f"{where} needs either calls or amount, at least 1")
    return ("calls", calls) if calls else ("amount", amount)


def _name(text: str, where: str) -> str:
    if not _NAME.fullmatch(text):
        raise ConfigError(f"{where} must be 1 to 16 letters, digits or hyphens, not {text!r:.40}")
    return text
