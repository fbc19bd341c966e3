"""Outcomes that nobody saw: the chain is asked what became of payments and refunds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from inference.database import Database
from inference.payments.authorizations import AuthorizationBook, Unsettled
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import paid_to
from inference.payments.reservation import Reservation
from inference.payments.token_contract import TokenContract
from inference.payments.verification import Terms
from registry.chain.connection import Chain

# Seconds after which a refund that is still open was not seen to end: the chain's own wait, twice.
_OUTCOME_S: Final = 300


@dataclass(frozen=True)
class Outcomes:
    """Ends what is unknown once the chain says how; `report` puts an incident into the log."""

    chain: Chain
    database: Database
    ledger: ChannelLedger
    authorizations: AuthorizationBook
    channels: ChannelsContract
    token: TokenContract
    terms: Terms
    report: Callable[[str, str, str], None]
    from_block: int
    may_be_mined: Callable[[], bool]

    def resolve(self) -> None:
        """Ask about payments and refunds whose outcome was not seen. Raises `ChainError`."""
        before = int(time.time()) - _OUTCOME_S
        for unsettled in self.database.read(self.authorizations.unsettled):
            self._resolve(unsettled)
        self.refunds(
            self.database.read(lambda tx: self.ledger.stale_refunds(tx, before=before)),
        )

    def refunds(self, open_refunds: Collection[Reservation]) -> None:
        """End refunds by what the chain says of their channels now, unless one waits there."""
        if open_refunds and self.may_be_mined():
            return
        for reservation in open_refunds:
            self._resolve_refund(reservation)

    def _resolve(self, unsettled: Unsettled) -> None:
        reservation = unsettled.reservation
        used_by = self.token.outcome(
            reservation.payer,
            bytes.fromhex(reservation.nonce[2:]),
            valid_before=unsettled.valid_before,
            from_block=self.from_block,
            pays=paid_to(reservation, self.terms),
        )
        if used_by is None:
            return
        fresh = self.database.write_now(
            lambda tx: self.authorizations.conclude(tx, unsettled, used_by)
        )
        if fresh and used_by and reservation.purpose == "exact":
            detail = f"{reservation.amount} were paid in 0x{used_by.hex()} and not answered"
            self.report("paid without an answer", reservation.payer, detail)

    def _resolve_refund(self, reservation: Reservation) -> None:
        state = self.channels.state(reservation.channel_id, now=int(time.time()))

        def end(tx: Connection) -> None:
            self.ledger.finish_refund(tx, reservation, state)

        self.database.write_now(end)
