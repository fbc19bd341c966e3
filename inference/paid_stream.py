"""A paid stream: steps 6 to 9 of story c for a call that is answered piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from math import inf

from inference.call import Answer, Stream
from inference.errors import ModelStoppedError, NodeError
from inference.receipts import SaltedHash
from inference.sale import Sale, Till, check_still_sold, failed, paid_headers, record
from inference.statements import Statement


async def stream(sale: Sale, till: Till) -> Answer | Stream:
    """Charge the quote up front, so that the client can book it; the rest becomes its credit.

    The head leaves after the first piece is there: what cannot begin is not charged.
    """
    pieces = sale.work.perform()
    try:
        check_still_sold(sale, till)
        first = await anext(pieces)
        till.catalog.check_sound(sale.entry)
    except NodeError as failure:
        await pieces.aclose()
        return await failed(sale, till, failure)
    events = _events(sale, till, first, pieces)
    # A generator that was never begun cannot clean up: begun, its charge is booked at any rate.
    await anext(events)
    return Stream(paid_headers(till.cashier.stream_head(sale.secured)), events)


async def _events(
    sale: Sale, till: Till, first: bytes, pieces: AsyncGenerator[bytes, None]
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


async def _book_stream(sale: Sale, till: Till, status: str, response: SaltedHash) -> Statement:
    """Charge a stream for what was delivered; nothing if it failed or its model is not sound.

    Its pieces have left: it is written however long the database is away.
    """
    try:
        return (await record(sale, till, status, response, for_s=inf))[0]
    except ModelStoppedError:  # found in this moment: what was delivered may be false
        return (await record(sale, till, "failed", response, for_s=inf))[0]


def _heard(sale: Sale, response: SaltedHash, piece: bytes) -> bytes:
    response.add(piece)
    sale.seen.piece()
    return piece
