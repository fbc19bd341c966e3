"""A payer with a key of its own at a shop, by the official Python client."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from inference.client import NodeIdentity, PaidAnswer, Payer
from inference.receipts import receipt_domain
from registry.signing.signer import Signer
from tests.e2e.shop import Shop


@dataclass
class Wallet:
    """One payer; each call of `payer` is a client that has lost what it knew of its channel."""

    shop: Shop
    signer: Signer

    def payer(self, **options: Any) -> Payer:
        registry = self.shop.node.config.registry
        contracts = registry.contracts
        domain = receipt_domain(contracts.chain_id, contracts.audit_anchor)
        return Payer(
            self.shop.url,
            signer=self.signer,
            rpc_url=registry.chain.rpc_url,
            network=f"eip155:{contracts.chain_id}",
            node=NodeIdentity(self.shop.address, domain),
            **options,
        )

    def calls(self, *asked: tuple[str, dict[str, Any]], **options: Any) -> list[PaidAnswer]:
        async def go() -> list[PaidAnswer]:
            async with self.payer(**options) as payer:
                return [await payer.call(route, body) for route, body in asked]

        return asyncio.run(go())
