"""`weightproof prices` and `weightproof coupon`: what a node charges, and calls that are a gift."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final

import httpx

from inference.audit.document import ZERO_ADDRESS, FormatError
from inference.config import NodeConfig
from inference.coupon import Coupon, coupon_domain
from inference.errors import UnavailableError
from inference.price_facts import PriceOffer, RateFacts
from inference.remote import node_client
from registry.config import checked_address
from registry.errors import ConfigError
from registry.terminal import Terminal

_DAY_S: Final = 86_400
_HEADER: Final = "Weightproof-Coupon"


def show_prices(url: str, terminal: Terminal) -> None:
    """Print what the models of the node at `url` cost, by its own word."""
    with node_client(url) as client:
        offers = _offers(client)
    if terminal.as_json:
        terminal.result({"prices": [offer.to_json() for offer in offers]})
        return
    rows: dict[str, object] = {}
    for offer in offers:
        rows[offer.model] = _rate(offer.price)
        if offer.exact != offer.price:
            rows[f"{offer.model} (exact)"] = _rate(offer.exact)
    for offer in offers[:1]:
        rows |= _plans(offer)
    for name, sold in {s.name: s for o in offers for s in o.subscriptions}.items():
        rows[f"(subscription {name})"] = (
            f"{sold.price}: {sold.days} days, {sold.limit} {_unit(sold.unit)}"
        )
    terminal.result(rows, title="atomic units of the token")


@dataclass(frozen=True)
class CouponOrder:
    """What a coupon shall say: `calls` or `amount`, whose, for which models, for how long."""

    calls: int
    amount: int
    wallet: str
    models: str
    days: int

    def coupon(self) -> Coupon:
        """Return it unsigned. Raises `ConfigError` for one that cannot be."""
        if bool(self.calls) == bool(self.amount):
            raise ConfigError("a coupon is for calls or for an amount: give --calls or --amount")
        wallet = checked_address(self.wallet, "--wallet") if self.wallet else ZERO_ADDRESS
        try:
            return Coupon(
                wallet=wallet,
                models=self.models,
                unit="calls" if self.calls else "amount",
                limit=self.calls or self.amount,
                expires_at=int(time.time()) + self.days * _DAY_S,
                nonce=secrets.token_bytes(32),
            )
        except FormatError as error:
            raise ConfigError(f"no coupon can say this: {error.message}") from error


def make_coupon(
    order: CouponOrder, config: NodeConfig, terminal: Terminal, *, node: str = ""
) -> None:
    """Sign a coupon with the operator's key for `node`, default the one of role node; print it."""
    keys, chain_id = config.registry.keys, config.registry.contracts.chain_id
    role = "operator" if "operator" in keys.references else "node"
    address = (
        checked_address(node, "--address")
        if node
        else keys.signer("node", chain_id=chain_id).address
    )
    coupon, domain = order.coupon(), coupon_domain(chain_id, address)
    terminal.result(
        {
            "coupon": coupon.signed(keys.signer(role, chain_id=chain_id), domain),
            "header": _HEADER,
            "id": "0x" + coupon.digest(domain).hex(),
            "wallet": "whoever holds it" if coupon.is_bearers else coupon.wallet,
            coupon.unit: coupon.limit,
            "expires_at": coupon.expires_at,
        }
    )


def _offers(client: httpx.Client) -> list[PriceOffer]:
    """Return what a node offers now. Raises `UnavailableError`."""
    try:
        answer = client.get("/v1/prices")
        answer.raise_for_status()
        return [PriceOffer.from_json(one["offer"]) for one in answer.json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, FormatError) as error:
        raise UnavailableError(
            f"the node at {client.base_url} does not show its prices",
            hint="is it running, and is the address right?",
        ) from error


def _rate(rate: RateFacts) -> str:
    parts = {
        "a call": rate.per_call,
        "a million tokens in": rate.input_per_million,
        "a million tokens out": rate.output_per_million,
        f"a second, at most {rate.most_seconds}": rate.per_second,
    }
    return ", ".join(f"{amount} {what}" for what, amount in parts.items() if amount)


def _plans(offer: PriceOffer) -> dict[str, object]:
    rows: dict[str, object] = {}
    if offer.tiers:
        steps = ", ".join(f"from {t.spent} on {t.permille} ‰ off" for t in offer.tiers)
        rows["(tiers)"] = f"{steps}, in each {offer.tier_days} days"
    if offer.trial.unit != "none":
        limit = f"{offer.trial.limit} {_unit(offer.trial.unit)}"
        condition = f", with {offer.trial.min_balance}" if offer.trial.min_balance else ""
        rows["(trial)"] = f"{limit} for each wallet on the operator's list{condition}"
    return rows


def _unit(unit: str) -> str:
    return "calls free" if unit == "calls" else "free"
