"""`GET /v1/prices`: what calls cost here, and what is taken off for whom. Free, and from memory."""

from __future__ import annotations

import json
from dataclasses import asdict

from fastapi import APIRouter, Response

from inference.node import Node
from inference.payments.plans import Plans
from inference.payments.pricing import Price


def router(node: Node) -> APIRouter:
    """Return the route over a node's prices."""
    routes = APIRouter()

    @routes.get("/v1/prices", response_model=None)
    async def prices() -> Response:
        text = json.dumps(
            {
                "object": "prices",
                "node": node.signer.address,
                "network": node.cashier.network,
                "asset": node.cashier.terms.token.address,
                "models": [
                    {
                        "id": entry.name,
                        "price": amounts(entry.price),
                        "exact_price": amounts(entry.exact_price or entry.price),
                    }
                    for entry in node.catalog
                ],
                **_plans(node.config.plans),
            }
        )
        return Response(text, media_type="application/json")

    return routes


def amounts(price: Price) -> dict[str, object]:
    """Return a price as JSON shows it: atomic units are decimal text, seconds an integer."""
    shown: dict[str, object] = {name: str(value) for name, value in asdict(price).items()}
    return shown | {"most_seconds": price.most_seconds}


def _plans(plans: Plans) -> dict[str, object]:
    """Return what anybody may get; what was agreed with single payers is theirs to know."""
    tiers, trial = plans.tiers, plans.trial
    return {
        "tiers": {
            "days": tiers.days,
            "steps": [
                {"spent": str(step.spent), "permille": step.permille} for step in tiers.steps
            ],
        },
        "trial": None
        if trial is None
        else {
            "name": trial.name,
            trial.unit: str(trial.limit),
            "min_balance": str(trial.min_balance),
            "listed_wallets": len(trial.allow),
            "wallets": trial.wallets,
        },
        "subscriptions": [
            {
                "name": offer.name,
                "price": str(offer.price),
                "days": offer.days,
                offer.unit: str(offer.limit),
                "models": list(offer.models),
            }
            for offer in plans.subscriptions
        ],
    }
