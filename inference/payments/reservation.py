"""A reservation: the proof that a call's price is secured. Nothing is generated without one.

Only the ledgers make reservations, and only inside the transaction that stores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from inference.errors import NodeError

Purpose: TypeAlias = Literal["call", "stream", "refund", "exact", "deposit"]

_MINT: Final = object()


@dataclass(frozen=True)
class Reservation:
    """Up to `amount` atomic units of `payer` are set aside under `id`.

    `channel_id` names the channel, `nonce` (0x, 32 bytes) the authorisation of an exact payment or
    deposit; empty where there is none. `told` and `state` are what a stream's head tells the
    payer: the charge made up front, and x402's channelState after it. `paid_in` is the transaction
    that moved an `exact` payment for nothing before, empty where none did.
    """

    id: str
    scheme: str
    purpose: Purpose
    payer: str
    amount: int
    channel_id: str
    nonce: str
    told: int
    state: Mapping[str, object] = field(repr=False)
    mint: object = field(repr=False, compare=False)
    paid_in: bytes = b""

    def __post_init__(self) -> None:
        if self.mint is not _MINT:
            raise NodeError("a Reservation comes from a ledger's reserve only")

    def extra(self) -> dict[str, object]:
        """Return the `extra` of the PAYMENT-RESPONSE that a stream sends up front."""
        if self.purpose != "stream":
            raise NodeError(f"a {self.purpose} is charged when it ends, not up front")
        return {"chargedAmount": str(self.told), "channelState": dict(self.state)}


@dataclass(frozen=True)
class Committed:
    """What a call became: its `actual` cost, and the charge the payer is told of it.

    They differ by the credit an earlier stream left. `cumulative` is all that was told so far,
    `claimable` what all finished calls of the channel cost together.
    """

    actual: int
    told: int
    cumulative: int
    credit: int
    claimable: int
    state: Mapping[str, object]

    def extra(self) -> dict[str, object]:
        """Return the `extra` of a PAYMENT-RESPONSE."""
        return {"chargedAmount": str(self.told), "channelState": dict(self.state)}


def make_reservation(
    *,
    id: str,
    scheme: str,
    purpose: Purpose,
    payer: str,
    amount: int,
    channel_id: str = "",
    nonce: str = "",
    told: int = 0,
    state: Mapping[str, object] | None = None,
    paid_in: bytes = b"",
) -> Reservation:
    """Return a reservation; for the ledgers, which have just stored it."""
    return Reservation(
        id, scheme, purpose, payer, amount, channel_id, nonce, told, state or {}, _MINT, paid_in
    )
