"""What a transaction moved: the Transfer events of one token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from registry.chain.connection import Chain

# Any artifact with ERC-20's Transfer event reads it.
_ERC20 = "DevUSD"


@dataclass(frozen=True)
class Transfer:
    """One movement of a token, in atomic units."""

    sender: str
    receiver: str
    amount: int


def transfers_in(chain: Chain, tx_hash: bytes, asset: str) -> tuple[Transfer, ...]:
    """Return what a mined transaction moved of `asset`; nothing when it is not mined.

    Raises `TransactionFailedError` when it reverted.
    """
    receipt = chain.receipt(tx_hash)
    if receipt is None:
        return ()
    events = chain.events_in(receipt, _ERC20, asset, "Transfer")
    return tuple(
        Transfer(
            cast(str, event.values["from"]),
            cast(str, event.values["to"]),
            cast(int, event.values["value"]),
        )
        for event in events
    )
