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

Failure before the first token: released, nothing charged, a receipt that says so: `refused` where
the work was never begun, `failed` where it was. What is refused before step 5 is answered and
written down nowhere: who has reserved nothing must not be able to fill the disk and the log. Behind
a reservation stands a proven payer with money, held to the rate of calls. A client that leaves
midway is charged for what was delivered, and step 8 happens all the same. A model that is
unloaded, replaced or revoked meanwhile finishes its calls; one whose weights changed in memory
does not: they fail, uncharged, with a receipt that says so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from inference.call import EVENT_STREAM, Answer, Call, Stream
from inference.catalog import Lease
from inference.coupon import Coupon
from inference.database import DatabaseError
from inference.errors import (
    AlreadyAnsweredError,
    InProgressError,
    ModelStoppedError,
    NodeError,
    PaymentRefusedError,
)
from inference.observer import Observation
from inference.paid_stream import stream
from inference.payments import exact
from inference.payments.exact import parse_authorization
from inference.payments.identifier import Ticket, binding
from inference.payments.mover import SettlementPendingError
from inference.payments.offers import OTHER_OFFER
from inference.payments.pricing import least, quote
from inference.payments.secured import DepositedError, Moved
from inference.payments.x402 import PaymentPayload, decode_payment, settle_response
from inference.receipts import SaltedHash, find_receipt
from inference.sale import (
    Sale,
    Till,
    check_still_sold,
    failed,
    give_back,
    paid_headers,
    record,
    refused,
)
from inference.statements import Statement
from inference.work import Generates


@dataclass(frozen=True)
class _Asked:
    """A call with its payment, and the ticket that its payer gave it."""

    call: Call
    payment: PaymentPayload | None
    ticket: Ticket | None

    def binding(self) -> bytes:
        """Return what binds its payment to its request."""
        if self.ticket is not None:
            return self.ticket.binding
        if self.payment is None or self.payment.scheme != exact.SCHEME:
            return b""  # a voucher is good for whatever is asked on its channel
        return binding(self.payment, self.call.path, self.call.body)


async def run(call: Call, till: Till) -> Answer | Stream:
    """Take a call through the nine steps.

    Raises `NodeError` for what is refused before a payment is touched: unknown or stopped model,
    a wrong body, a header that cannot be read, a chain that does not answer.
    """
    with till.observer.begin(call) as seen:
        payment = None if call.payment is None else decode_payment(call.payment)
        ticket = None if payment is None else till.retries.ticket(call, payment)
        # A retry is told what the call was answered with, whatever became of its model.
        if ticket is not None and (told := await till.retries.answer(ticket)):
            seen.answered(told)
            return told
        lease = till.catalog.lease(call.model, task=call.task)  # 1
        seen.found(lease.entry)
        answer = None
        try:
            answer = await _run(_Asked(call, payment, ticket), seen, lease, till)
            seen.answered(answer)
            return answer
        finally:
            if not isinstance(answer, Stream):  # a stream ends its lease itself
                lease.end()


async def _run(asked: _Asked, seen: Observation, lease: Lease, till: Till) -> Answer | Stream:
    call, payment, entry = asked.call, asked.payment, lease.entry
    till.ready()
    work = await call.prepare(entry)
    till.statements.check(entry, work)
    rate = till.tariff.rate(entry, work, payment)
    amount = quote(rate.price, work.input_tokens, work.max_output_tokens)  # 2
    coupon = till.tariff.coupon(call.coupon, model=entry.name, work=work)
    offers = till.cashier.offers(call.url, amount)
    shown = till.tariff.shown(rate, payment)
    if payment is None:  # 3
        return till.demands.answer(offers, entry.name, extensions=shown)
    try:
        secured = await till.cashier.reserve(  # 4, 5
            payment,
            offers,
            least=least(rate.price, work.input_tokens),
            stream=work.streams,
            binding=asked.binding(),
            claim=till.retries.claim(asked.ticket),
        )
    except (InProgressError, AlreadyAnsweredError, PaymentRefusedError) as refusal:
        # A copy that was looked for and not found may have come and been answered meanwhile.
        if asked.ticket is not None and (told := await till.retries.answer(asked.ticket)):
            return told
        if isinstance(refusal, AlreadyAnsweredError):
            return _answered_before(payment, refusal, till)
        if not isinstance(refusal, PaymentRefusedError):
            raise
        if refusal.code == SettlementPendingError.code:
            # Never a fresh 402: it would make the client pay again.
            raise SettlementPendingError() from refusal
        if refusal.code == OTHER_OFFER and till.cashier.may_have_moved(payment):
            # The price changed since it was made for another: it is not to be paid twice.
            raise SettlementPendingError() from refusal
        return till.demands.answer(offers, entry.name, refusal, extensions=shown)
    except DepositedError as error:
        # No receipt: without a reservation the node cannot state what the channel was charged so
        # far. What moved is the payer's still; the header names the transaction, which proves it.
        header = error.response(till.cashier.network)
        return Answer(error.status, b"", paid_headers(header), error)
    if isinstance(work, Generates):
        work.payer = secured.reservation.payer
    seen.paid(work)
    sale = Sale(call, seen, lease, work, rate, secured, asked.ticket)
    return await _finish(sale, coupon, till)


def _answered_before(payment: PaymentPayload, error: AlreadyAnsweredError, till: Till) -> Answer:
    """Return the proof of what an `exact` payment paid for; its salts are for its payer alone."""
    signed = till.database.read(lambda tx: find_receipt(tx, error.receipt_id))
    extensions = {} if signed is None else {"weightproof": signed.public()}
    moved = Moved(error.transaction, error.amount)
    payer = parse_authorization(payment.payload).payer
    header = settle_response(
        success=True,
        network=till.cashier.network,
        payer=payer,
        transaction=moved.text,
        amount=moved.amount,
        extensions=extensions,
    )
    return Answer(error.status, b"", paid_headers(header), error)


async def _finish(sale: Sale, coupon: Coupon | None, till: Till) -> Answer | Stream:
    # `exact` moves money once, and only for an answer that exists: its streams come in one piece.
    metered = sale.secured.scheme != "exact"
    ended = False
    try:
        try:
            payer, scheme = sale.secured.reservation.payer, sale.secured.scheme
            claimed = await till.tariff.claim(coupon, payer, scheme=scheme)
            check_still_sold(sale, till)
        except NodeError as refusal:
            answer: Answer | Stream = await refused(sale, till, refusal)
        else:
            sale = replace(sale, claimed=claimed)
            answer = await (stream if sale.work.streams and metered else _serve)(sale, till)
        ended = True
        return answer
    finally:
        if not ended:
            # However the work broke, the money set aside for it is given back.
            await asyncio.shield(asyncio.ensure_future(give_back(sale, till)))


async def _serve(sale: Sale, till: Till) -> Answer:
    try:
        body = b"".join([piece async for piece in sale.work.perform()])  # 6
        till.catalog.check_sound(sale.entry)
    except NodeError as failure:
        return await failed(sale, till, failure)
    try:
        sale = replace(sale, secured=await till.cashier.collect(sale.secured))
    except NodeError as failure:
        return await failed(sale, till, failure)
    response = SaltedHash(sale.salts.response).add(body)

    def answer(statement: Statement, header: str) -> Answer:
        if not sale.work.streams:
            return Answer(200, body, paid_headers(header))
        whole = body + sale.work.closing(statement.receipt.bundle())
        return Answer(200, whole, paid_headers(header), media_type=EVENT_STREAM)

    try:
        statement, header = await record(sale, till, "ok", response, answer)  # 7, 8
    except (PaymentRefusedError, ModelStoppedError) as failure:
        # Only a channel's can be refused here: calls beside this one used up its ceiling, or the
        # weights were found changed in this moment.
        return await failed(sale, till, failure)
    except DatabaseError:
        if sale.secured.scheme != exact.SCHEME:
            raise
        # The money has moved: the payer is not to pay again, and gets its answer when it asks.
        till.cashier.leave_open(sale.secured)
        pending = SettlementPendingError()
        return Answer(pending.status, b"", {}, pending)
    return answer(statement, header)  # 9
