"""Story c: a paid call becomes a receipt.

1. the catalog gives engine and price, and a lease on them until the call has ended
2. quote: the most this call can cost, a pure function of body and price
3. no payment: 402 with the offers
4. the voucher or authorisation is verified here, without asking anybody
5. reserve: nothing is generated without a `Reservation`
6. generate
7. charge: from measured usage, never above the quote, and only while the weights are sound
8. one database transaction: charge + receipt + log entry
9. answer

Failure before the first token: released, nothing charged, a receipt that says so. A client that
leaves midway is charged for what was delivered, and step 8 happens all the same. A model that is
unloaded, replaced or revoked meanwhile finishes its calls; one whose weights changed in memory
does not: they fail, uncharged, with a receipt that says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import Connection

from inference.audit.log import AuditLog
from inference.call import Answer, Call, Stream
from inference.catalog import Catalog, CatalogEntry, Lease
from inference.database import Database, DatabaseError
from inference.demands import Demands
from inference.errors import ModelStoppedError, NodeError, PaymentRefusedError
from inference.observer import Observation, Observer
from inference.payments.cashier import Cashier
from inference.payments.mover import SettlementPendingError
from inference.payments.pricing import charge, least, quote
from inference.payments.secured import DepositedError, Secured
from inference.payments.x402 import decode_payment
from inference.receipts import SaltedHash, Salts, store_receipt
from inference.statements import Outcome, Statement, Statements
from inference.work import Generates, Work

# Seconds between tries to write down a call that was served while the database was busy.
_RETRY_S: Final = (0.5, 1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Till:
    """What a call needs beside itself."""

    catalog: Catalog
    cashier: Cashier
    demands: Demands
    database: Database
    log: AuditLog
    statements: Statements
    observer: Observer
    ready: Callable[[], None]


@dataclass(frozen=True)
class _Sale:
    """A call that holds a reservation, on a model that its lease holds."""

    call: Call
    seen: Observation
    lease: Lease
    work: Work
    quote: int
    secured: Secured
    salts: Salts = field(default_factory=Salts.random)

    @property
    def entry(self) -> CatalogEntry:
        """The model that answers."""
        return self.lease.entry


async def run(call: Call, till: Till) -> Answer | Stream:
    """Take a call through the nine steps.

    Raises `NodeError` for what is refused before a payment is touched: unknown or stopped model,
    a wrong body, a header that cannot be read, a chain that does not answer.
    """
    with till.observer.begin(call) as seen:
        lease = till.catalog.lease(call.model, task=call.task)  # 1
        seen.found(lease.entry)
        answer = None
        try:
            answer = await _run(call, seen, lease, till)
            seen.answered(answer)
            return answer
        finally:
            if not isinstance(answer, Stream):  # a stream ends its lease itself
                lease.end()


async def _run(call: Call, seen: Observation, lease: Lease, till: Till) -> Answer | Stream:
    entry = lease.entry
    till.ready()
    work = await call.prepare(entry)
    till.statements.check(entry, work)
    price = entry.price_for(work)
    amount = quote(price, work.input_tokens, work.max_output_tokens)  # 2
    offers = till.cashier.offers(call.url, amount)
    if call.payment is None:  # 3
        return till.demands.answer(offers, entry.name)
    payment = decode_payment(call.payment)
    try:
        secured = await till.cashier.reserve(  # 4, 5
            payment,
            offers,
            least=least(price, work.input_tokens),
            stream=work.streams,
        )
    except PaymentRefusedError as refusal:
        if refusal.code == SettlementPendingError.code:
            # Never a fresh 402: it would make the client pay again.
            raise SettlementPendingError() from refusal
        return till.demands.answer(offers, entry.name, refusal)
    except DepositedError as error:
        header = till.cashier.deposit_response(error.moved, error.payer)
        return Answer(error.status, b"", _paid_headers(header), error)
    if isinstance(work, Generates):
        work.payer = secured.reservation.payer
    seen.paid(work)
    return await _finish(_Sale(call, seen, lease, work, amount, secured), till)


async def _finish(sale: _Sale, till: Till) -> Answer | Stream:
    # `exact` moves money once, and only for an answer that exists: its streams come in one piece.
    metered = sale.secured.scheme != "exact"
    ended = False
    try:
        answer = await (_stream if sale.work.streams and metered else _serve)(sale, till)
        ended = True
        return answer
    finally:
        if not ended:
            # However the work broke, the money set aside for it is given back.
            await asyncio.shield(asyncio.ensure_future(_give_back(sale, till)))


async def _serve(sale: _Sale, till: Till) -> Answer:
    try:
        _check_still_sold(sale, till)
        body = b"".join([piece async for piece in sale.work.perform()])  # 6
        till.catalog.check_sound(sale.entry)
    except NodeError as failure:
        return await _failed(sale, till, failure)
    charged = _charge(sale)  # 7
    try:
        sale = replace(sale, secured=await till.cashier.collect(sale.secured))
    except NodeError as failure:
        return await _failed(sale, till, failure)
    response = SaltedHash(sale.salts.response).add(body)
    try:
        statement, header = await _record(sale, till, "ok", response, charged)  # 8
    except (PaymentRefusedError, ModelStoppedError) as failure:
        # Only a channel's can be refused here: calls beside this one used up its ceiling, or the
        # weights were found changed in this moment.
        return await _failed(sale, till, failure)
    if sale.work.streams:
        body += sale.work.closing(statement.receipt.bundle())
        return Answer(200, body, _paid_headers(header), media_type="text/event-stream")
    return Answer(200, body, _paid_headers(header))  # 9


def _check_still_sold(sale: _Sale, till: Till) -> None:
    """Ask again before anything is generated: a deposit can take many seconds on chain."""
    till.ready()
    till.catalog.check_on_sale(sale.entry)


async def _give_back(sale: _Sale, till: Till) -> str:
    """Release the call and sign that it failed and cost nothing; return the header."""
    nothing = SaltedHash(sale.salts.response)
    _, header = await _record(sale, till, "failed", nothing, 0, told=False)
    return header


async def _failed(sale: _Sale, till: Till, failure: NodeError) -> Answer:
    sale.seen.failed(failure)
    header = await _give_back(sale, till)
    return Answer(failure.status, b"", _paid_headers(header), failure)


async def _stream(sale: _Sale, till: Till) -> Answer | Stream:
    """Charge the quote up front, so that the client can book it; the rest becomes its credit.

    The head leaves after the first piece is there: what cannot begin is not charged.
    """
    pieces = sale.work.perform()
    try:
        _check_still_sold(sale, till)
        first = await anext(pieces)
        till.catalog.check_sound(sale.entry)
    except NodeError as failure:
        await pieces.aclose()
        return await _failed(sale, till, failure)
    events = _events(sale, till, first, pieces)
    # A generator that was never begun cannot clean up: begun, its charge is booked at any rate.
    await anext(events)
    return Stream(_paid_headers(till.cashier.stream_head(sale.secured)), events)


async def _events(
    sale: _Sale, till: Till, first: bytes, pieces: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    response, status = SaltedHash(sale.salts.response), "partial"
    try:
        yield b""
        yield _heard(sale, response, first)
        async for piece in pieces:  # 6
            till.catalog.check_sound(sale.entry)
            yield _heard(sale, response, piece)
        status = "ok"
    except NodeError as failure:
        status = "failed"
        sale.seen.failed(failure)
        yield _heard(sale, response, sale.work.failing(failure))
    finally:
        # Also when the reader left: what was delivered is charged, whoever stops waiting.
        await pieces.aclose()
        booking = asyncio.ensure_future(_book_stream(sale, till, status, response))  # 7, 8
        booking.add_done_callback(lambda _: sale.lease.end())
        booking.add_done_callback(lambda _: sale.seen.end())
        statement = await asyncio.shield(booking)
    yield sale.work.closing(statement.receipt.bundle())  # 9


async def _book_stream(sale: _Sale, till: Till, status: str, response: SaltedHash) -> Statement:
    """Charge a stream for what was delivered; nothing if it failed or its model is not sound."""
    charged = 0 if status == "failed" else _charge(sale)
    try:
        return (await _record(sale, till, status, response, charged))[0]
    except ModelStoppedError:  # found in this moment: what was delivered may be false
        return (await _record(sale, till, "failed", response, 0))[0]


def _heard(sale: _Sale, response: SaltedHash, piece: bytes) -> bytes:
    response.add(piece)
    sale.seen.piece()
    return piece


def _charge(sale: _Sale) -> int:
    """Return what the call costs: `exact` pays its quote, a channel what was used."""
    if sale.secured.scheme == "exact":
        return sale.quote
    return charge(sale.entry.price_for(sale.work), sale.work.usage)


async def _record(
    sale: _Sale,
    till: Till,
    status: str,
    response: SaltedHash,
    charged: int,
    *,
    told: bool = True,
) -> tuple[Statement, str]:
    """Step 8: charge, receipt and log entry stand or fall together.

    `told` is False when the payer was told of no charge: a prepaid quote is taken back then.
    """
    outcome = Outcome(
        status=status,
        charged=charged,
        served_at=int(time.time()),
        url=sale.call.url,
        path=sale.call.path,
        request=sale.call.body,
        response_hash=response.digest(),
        salts=sale.salts,
        block=till.catalog.block(sale.entry),
    )

    def commit(tx: Connection) -> tuple[Statement, str]:
        if charged and sale.secured.scheme != "exact":
            # The last moment: this transaction may have waited. An `exact` payment has moved.
            till.catalog.check_sound(sale.entry)
        booked = till.cashier.book(tx, sale.secured, charged, told=told)
        position = till.log.next_position(tx)
        statement = till.statements.about(sale.entry, sale.work, outcome, booked, position)
        till.log.append(tx, statement.receipt.entry())
        store_receipt(tx, statement.receipt)
        if charged:
            till.catalog.mark_paid(sale.entry)
        return statement, till.cashier.response(booked, statement.extensions)

    statement, header = await _written(commit, till)
    sale.seen.recorded(statement)
    return statement, header


async def _written(
    commit: Callable[[Connection], tuple[Statement, str]], till: Till
) -> tuple[Statement, str]:
    for pause in _RETRY_S:
        try:
            return await till.database.write(commit)
        except DatabaseError:
            await asyncio.sleep(pause)
    return await till.database.write(commit)


def _paid_headers(header: str) -> dict[str, str]:
    return {"PAYMENT-RESPONSE": header, "Cache-Control": "no-store, private"}
