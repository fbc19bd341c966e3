"""Retries: what a call that its payer named is told when it comes again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Connection

from inference.answers import AnswerBook
from inference.call import Answer, Call
from inference.database import Database
from inference.errors import IdentifierRequiredError, InProgressError
from inference.payments import identifier
from inference.payments.identifier import Ticket
from inference.payments.reservation import Reservation
from inference.payments.wanted import Claim
from inference.payments.x402 import PaymentPayload

# Seconds that a retry waits for the call it repeats, and between two looks.
_WAIT_S: Final = 20.0
_LOOK_S: Final = 0.1
# Seconds between two sweeps, and rows that one write deletes: others wait for it.
SWEEP_S: Final = 60
_ROWS: Final = 200


@dataclass(frozen=True)
class Retries:
    """Finds the answers in `book`, and deletes those whose time has passed."""

    database: Database
    book: AnswerBook

    def declaration(self) -> Mapping[str, object] | None:
        """Return what a 402 declares of payment-identifier; None where no answers are kept."""
        config = self.book.config
        return identifier.declaration(required=config.required) if config.keep_s else None

    def ticket(self, call: Call, payment: PaymentPayload) -> Ticket | None:
        """Return the ticket of a call that its payer named.

        Raises `MalformedPaymentError` for a wrong identifier, `IdentifierRequiredError`.
        """
        config = self.book.config
        if not config.keep_s:
            return None
        if config.required and not identifier.identifier(payment):
            raise IdentifierRequiredError(
                "this node wants every paid call to have a payment identifier",
                hint="use the extension payment-identifier of x402",
            )
        return identifier.ticket(payment, call.path, call.body)

    async def answer(self, ticket: Ticket) -> Answer | None:
        """Return what the call was answered with before; None when it is to be served.

        Waits for a copy of it that is being served, then raises `InProgressError`. Raises
        `ConflictError` when the name is another call's.
        """
        waited = 0.0
        while True:
            try:
                return self.database.read(
                    lambda tx: self.book.find(tx, ticket, now=int(time.time()))
                )
            except InProgressError:
                if waited >= _WAIT_S:
                    raise
            # Looked at in the database: the call may be another process's.
            await asyncio.sleep(_LOOK_S)
            waited += _LOOK_S

    def claim(self, ticket: Ticket | None) -> Claim:
        """Return what takes the call's name beside its reservation; nothing without a ticket."""

        def claim(tx: Connection, reservation: Reservation) -> None:
            if ticket is not None:
                self.book.claim(tx, ticket, reservation.id, now=int(time.time()))

        return claim

    def keep(
        self, tx: Connection, ticket: Ticket, reservation: Reservation, answer: Answer
    ) -> None:
        """Keep what the call is answered with, in the transaction that charges it."""
        self.book.keep(tx, ticket, reservation.id, answer)

    async def run(self) -> None:
        """Sweep for ever; a sweep that fails is made up for by the next."""
        while True:
            with suppress(Exception):  # a door: an odd error must not end it for ever
                await asyncio.to_thread(self.sweep)
            await asyncio.sleep(SWEEP_S)

    def sweep(self) -> int:
        """Delete what has expired or is beyond what is kept; return how many rows."""
        now = int(time.time())
        rows = self.database.read(lambda tx: self.book.spent(tx, now=now))
        for first in range(0, len(rows), _ROWS):  # others write in between
            part = rows[first : first + _ROWS]
            self.database.write_now(partial(self.book.delete, rows=part))
        return len(rows)
