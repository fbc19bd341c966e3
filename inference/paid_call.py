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
from dataclasses import replace

from inference.call import Answer, Call, Stream
from inference.catalog import Lease
from inference.coupon import Coupon
from inference.errors import ModelStoppedError, NodeError, PaymentRefusedError
from inference.observer import Observation
from inference.paid_stream import stream
from inference.payments.mover import SettlementPendingError
from inference.payments.pricing import least, quote
from inference.payments.secured import DepositedError
from inference.payments.x402 import decode_payment
from inference.receipts import SaltedHash
from inference.sale import Sale, Till, check_still_sold, failed, give_back, paid_headers, record
from inference.work import Generates


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
    coupon = till.tariff.coupon(call.coupon, model=entry.name, work=work)
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
        return Answer(error.status, b"", paid_headers(header), error)
    if isinstance(work, Generates):
        work.payer = secured.reservation.payer
    seen.paid(work)
    return await _finish(Sale(call, seen, lease, work, amount, secured), coupon, till)


async def _finish(sale: Sale, coupon: Coupon | None, till: Till) -> Answer | Stream:
    # `exact` moves money once, and only for an answer that exists: its streams come in one piece.
    metered = sale.secured.scheme != "exact"
    ended = False
    try:
        try:
            payer, scheme = sale.secured.reservation.payer, sale.secured.scheme
            claimed = await till.tariff.claim(coupon, payer, scheme=scheme)
        except NodeError as failure:
            answer: Answer | Stream = await failed(sale, till, failure)
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
        check_still_sold(sale, till)
        body = b"".join([piece async for piece in sale.work.perform()])  # 6
        till.catalog.check_sound(sale.entry)
    except NodeError as failure:
        return await failed(sale, till, failure)
    try:
        sale = replace(sale, secured=await till.cashier.collect(sale.secured))
    except NodeError as failure:
        return await failed(sale, till, failure)
    response = SaltedHash(sale.salts.response).add(body)
    try:
        statement, header = await record(sale, till, "ok", response)  # 7, 8
    except (PaymentRefusedError, ModelStoppedError) as failure:
        # Only a channel's can be refused here: calls beside this one used up its ceiling, or the
        # weights were found changed in this moment.
        return await failed(sale, till, failure)
    if sale.work.streams:
        body += sale.work.closing(statement.receipt.bundle())
        return Answer(200, body, paid_headers(header), media_type="text/event-stream")
    return Answer(200, body, paid_headers(header))  # 9
