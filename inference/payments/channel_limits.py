"""How many channels may be open: each is a row, a view of the chain and, some day, a claim."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, true

from inference import schema
from inference.errors import PaymentRefusedError

_TABLE = schema.channels


@dataclass(frozen=True)
class ChannelLimits:
    """Open channels of one payer, and of all; 0 is any number.

    A channel is open while there is something in it that was not claimed.
    """

    per_payer: int = 0
    in_all: int = 0

    def __bool__(self) -> bool:
        return bool(self.per_payer or self.in_all)

    def check(self, tx: Connection, payer: str) -> None:
        """Raise `PaymentRefusedError` when one more channel of `payer` would be too many."""
        if self.per_payer and _count(tx, _TABLE.c.payer == payer) >= self.per_payer:
            raise PaymentRefusedError(
                "too_many_channels",
                f"{self.per_payer} channels of {payer} are open already; use one of them",
            )
        if self.in_all and _count(tx, true()) >= self.in_all:
            raise PaymentRefusedError(
                "too_many_channels",
                f"{self.in_all} channels are open here already; pay with exact",
            )


def _count(tx: Connection, which: ColumnElement[bool]) -> int:
    # Both are decimal text without leading zeros: equal amounts are equal texts.
    is_open = _TABLE.c.balance != _TABLE.c.total_claimed
    query = select(func.count()).select_from(_TABLE).where(which, is_open)
    return int(tx.execute(query).scalar_one())
