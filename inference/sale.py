"""A sale: a call that holds a reservation, and how it ends in the books.

However it ends, one transaction writes its charge, its receipt and its log entry together (step 8
of story c), and the header that tells the payer is made from what that transaction wrote.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, TypeAlias

from sqlalchemy import Connection

from inference.answers import is_final
from inference.audit.log import AuditLog
from inference.call import Answer, Call
from inference.catalog import Catalog, CatalogEntry, Lease
from inference.database import Database, DatabaseError
from inference.demands import Demands
from inference.disclosure_book import DisclosureBook
from inference.errors import NodeError, QueueFullError, RequestError
from inference.observer import Observation, Observer
from inference.payments.cashier import Cashier
from inference.payments.identifier import Ticket
from inference.payments.plan_book import Claimed
from inference.payments.secured import Secured
from inference.receipt_format import FAILED, REFUSED
from inference.receipts import SaltedHash, Salts, store_receipt
from inference.retries import Retries
from inference.statements import SERVED, Outcome, Statement, Statements, new_receipt_id
from inference.tariff import Bill, Rate, Tariff
from inference.work import Work

# Makes an answer of what was signed and of the PAYMENT-RESPONSE header.
AnswerMaker: TypeAlias = Callable[[Statement, str], Answer]
# Seconds that a payer waits for what it was served to be written down while the database is busy.
_PATIENCE_S: Final = 32.0


@dataclass(frozen=True)
class Till:
    """What a call needs beside itself."""

    catalog: Catalog
    cashier: Cashier
    demands: Demands
    database: Database
    log: AuditLog
    statements: Statements
    tariff: Tariff
    observer: Observer
    retries: Retries
    disclosures: DisclosureBook
    ready: Callable[[], None]


@dataclass(frozen=True)
class Sale:
    """A call that holds a reservation, on a model that its lease holds."""

    call: Call
    seen: Observation
    lease: Lease
    work: Work
    rate: Rate
    secured: Secured
    ticket: Ticket | None = None
    claimed: Claimed = field(default_factory=Claimed)
    salts: Salts = field(default_factory=Salts.random)
    receipt_id: str = field(default_factory=new_receipt_id)

    @property
    def entry(self) -> CatalogEntry:
        """The model that answers."""
        return self.lease.entry

    def bill(self, tx: Connection, till: Till, *, seq: int, at: int) -> Bill:
        """Return what the call costs at place `seq` of the log, at unix second `at`."""
        return till.tariff.bill(
            tx,
            self.work,
            payer=self.secured.reservation.payer,
            entry=self.entry,
            rate=self.rate,
            scheme=self.secured.scheme,
            claimed=self.claimed,
            seq=seq,
            at=at,
        )

    def keep(self, tx: Connection, book: DisclosureBook, *, now: int) -> None:
        """Keep what an auditor may ask for, if anything is kept; `now` is in unix seconds."""
        book.keep(tx, self.receipt_id, self.call.body, self.work.output_ids, now=now)


def check_still_sold(sale: Sale, till: Till) -> None:
    """Ask again before anything is generated: a deposit can take many seconds on chain."""
    till.ready()
    till.catalog.check_on_sale(sale.entry)


async def refused(sale: Sale, till: Till, refusal: NodeError) -> Answer:
    """End a sale before its work began: nothing is charged, and a receipt says so."""
    return await _uncharged(sale, till, refusal, REFUSED)


async def failed(sale: Sale, till: Till, failure: NodeError) -> Answer:
    """End a sale whose work broke, or was refused by the engine: nothing is charged either."""
    # What an engine says of a request it did not take; whatever else comes broke on the way.
    is_refusal = isinstance(failure, RequestError | QueueFullError)
    return await _uncharged(sale, till, failure, REFUSED if is_refusal else FAILED)


async def _uncharged(sale: Sale, till: Till, failure: NodeError, status: str) -> Answer:
    sale.seen.failed(failure)

    def told(_: Statement, header: str) -> Answer:
        return Answer(failure.status, b"", paid_headers(header), failure)

    kept = told if is_final(failure) else None
    statement, header = await give_back(sale, till, kept, status=status)
    return told(statement, header)


async def give_back(
    sale: Sale, till: Till, answer: AnswerMaker | None = None, *, status: str = FAILED
) -> tuple[Statement, str]:
    """Release the call and sign that it cost nothing, and why; return what `record` does.

    It is written however long the database is away, or the money would stay set aside; the payer
    waits for that as long as for an answer, and is refused with `DatabaseError` then.
    """
    nothing = SaltedHash(sale.salts.response)
    writing = asyncio.ensure_future(
        record(sale, till, status, nothing, answer, told=False, for_s=inf)
    )
    ended, _ = await asyncio.wait([writing], timeout=_PATIENCE_S)
    if not ended:
        raise DatabaseError("the database cannot be written; nothing was charged")
    return writing.result()


async def record(
    sale: Sale,
    till: Till,
    status: str,
    response: SaltedHash,
    answer: AnswerMaker | None = None,
    *,
    told: bool = True,
    for_s: float = _PATIENCE_S,
) -> tuple[Statement, str]:
    """Take steps 7 and 8: charge, receipt and log entry stand or fall together.

    Returns the statement and the PAYMENT-RESPONSE header. What was not served costs nothing.
    `answer` makes of them what a call that its payer named is answered with, now and when it comes
    again; None for what a retry is to try again. `told` is False when the payer was told of no
    charge: a prepaid quote is taken back then. Raises `DatabaseError` after `for_s` seconds
    without it.
    """
    outcome = Outcome(
        receipt_id=sale.receipt_id,
        status=status,
        served_at=int(time.time()),
        url=sale.call.url,
        path=sale.call.path,
        request=sale.call.body,
        response_hash=response.digest(),
        salts=sale.salts,
        block=till.catalog.block(sale.entry),
    )

    served = status in SERVED

    def commit(tx: Connection) -> tuple[Statement, str]:
        if served and sale.secured.scheme != "exact":
            # The last moment: this transaction may have waited. An `exact` payment has moved.
            till.catalog.check_sound(sale.entry)
        position = till.log.next_position(tx)
        bill = Bill(0)
        if served:
            bill = sale.bill(tx, till, seq=position.seq, at=outcome.served_at)
        booked = till.cashier.book(
            tx, sale.secured, bill.charged, told=told, receipt_id=sale.receipt_id
        )
        statement = till.statements.about(
            sale.entry, sale.work, sale.rate.price, outcome, booked, position, bill.plan
        )
        till.log.append(tx, statement.receipt.entry())
        store_receipt(tx, statement.receipt)
        if served:
            till.catalog.mark_paid(sale.entry)
            sale.keep(tx, till.disclosures, now=outcome.served_at)
        header = booked.response(statement.extensions)
        # Where money may have moved for nothing, the same payment is to be served.
        if sale.ticket is not None and answer is not None and not booked.pending:
            till.retries.keep(tx, sale.ticket, sale.secured.reservation, answer(statement, header))
        return statement, header

    statement, header = await till.database.insist(commit, for_s=for_s)
    sale.seen.recorded(statement)
    return statement, header


def paid_headers(header: str) -> dict[str, str]:
    """Return the headers of an answer to a paid call; `header` is its PAYMENT-RESPONSE."""
    return {"PAYMENT-RESPONSE": header, "Cache-Control": "no-store, private"}
