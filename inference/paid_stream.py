"""A paid stream: steps 6 to 9 of story c for a call that is answered piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from math import inf

from inference.call import EVENT_STREAM, Answer, Stream
from inference.errors import ModelStoppedError, NodeError
from inference.receipts import SaltedHash
from inference.sale import Sale, Till, failed, paid_headers, record
from inference.statements import Statement


async def stream(sale: Sale, till: Till) -> Answer | Stream:
    """Charge the quote up front, so that the client can book it; the rest becomes its credit.

    The head leaves after the first piece is there: what cannot begin is not charged.
    """
    pieces = sale.work.perform()
    try:
        first = await anext(pieces)
        till.catalog.check_sound(sale.entry)
    except NodeError as failure:
        await pieces.aclose()
        return await failed(sale, till, failure)
    head = paid_headers(till.cashier.stream_head(sale.secured))
    events = _events(sale, till, head, first, pieces)
    # A generator that was never begun cannot clean up: begun, its charge is booked at any rate.
    await anext(events)
    return Stream(head, events)


async def _events(
    sale: Sale,
    till: Till,
    head: dict[str, str],
    first: bytes,
    pieces: AsyncGenerator[bytes, None],
) -> AsyncGenerator[bytes, None]:
    heard, status = _Heard(sale, head), "partial"
    try:
        yield b""
        yield heard.piece(first)
        async for piece in pieces:  # 6
            till.catalog.check_sound(sale.entry)
            yield heard.piece(piece)
        status = "ok"
    except NodeError as failure:
        status = "failed"
        sale.seen.failed(failure)
        yield heard.piece(sale.work.failing(failure))
    finally:
        # Also when the reader left: what was delivered is charged, whoever stops waiting.
        await pieces.aclose()
        booking = asyncio.ensure_future(_book_stream(sale, till, status, heard))  # 7, 8
        booking.add_done_callback(lambda _: sale.lease.end())
        booking.add_done_callback(lambda _: sale.seen.end())
        statement = await asyncio.shield(booking)
    yield sale.work.closing(statement.receipt.bundle())  # 9


async def _book_stream(sale: Sale, till: Till, status: str, heard: _Heard) -> Statement:
    """Charge a stream for what was delivered; nothing if it failed or its model is not sound.

    Its pieces have left: it is written however long the database is away.
    """
    try:
        return (await record(sale, till, status, heard.hash, heard.answer, for_s=inf))[0]
    except ModelStoppedError:  # found in this moment: what was delivered may be false
        return (await record(sale, till, "failed", heard.hash, heard.answer, for_s=inf))[0]


@dataclass
class _Heard:
    """What left so far. Its bytes are remembered only of a call that its payer named.

    A retry gets them in one piece, under the head that was sent: a stream that was broken off is
    told as far as it was delivered and charged, with the receipt that says so.
    """

    sale: Sale
    head: dict[str, str]
    hash: SaltedHash = field(init=False)
    pieces: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hash = SaltedHash(self.sale.salts.response)

    def piece(self, piece: bytes) -> bytes:
        """Note a piece that leaves, and return it."""
        self.hash.add(piece)
        self.sale.seen.piece()
        if self.sale.ticket is not None:
            self.pieces.append(piece)
        return piece

    def answer(self, statement: Statement, _: str) -> Answer:
        """Return all of it, as a retry gets it."""
        closing = self.sale.work.closing(statement.receipt.bundle())
        return Answer(200, b"".join([*self.pieces, closing]), self.head, None, EVENT_STREAM)
