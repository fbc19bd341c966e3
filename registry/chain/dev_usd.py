"""DevUSD: the devnet's token. Anybody may mint it, so it is worth nothing anywhere."""

from __future__ import annotations

from typing import Final

from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.signing.signer import Signer

# Decimals of the token: one dollar is a million atomic units, as with USDC.
ONE: Final = 1_000_000


def mint(chain: Chain, signer: Signer, token: str, owner: str, amount: int) -> TxReceipt:
    """Give `owner` new tokens, in atomic units."""
    return chain.send(signer, chain.contract("DevUSD", token).functions.mint(owner, amount))


def balance(chain: Chain, token: str, owner: str) -> int:
    """Return what `owner` holds, in atomic units."""
    return int(chain.call(chain.contract("DevUSD", token).functions.balanceOf(owner)))
