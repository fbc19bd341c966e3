"""Disclosures: what a node answers to an auditor who wants to replay a call.

1. the request is read, strictly, and the call it names is found
2. it is allowed: by the payer, and by the beacon where the payer's consent says so
3. what is kept of the call is told: the exact request, the salts, the answer's tokens
4. or a refusal is signed and put into the log, once for each call, and told

Steps 1 and 2 end in errors that leave no trace; step 4 leaves one that cannot be taken back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from inference.audit.beacon import Window, window_of
from inference.audit.bodies import entry_of
from inference.audit.disclosure import (
    MAX_REQUEST_BYTES,
    NOT_KEPT,
    Confirms,
    Disclosed,
    DisclosureRequest,
    NotAllowedError,
    Refusal,
    check_request,
)
from inference.audit.document import FormatError
from inference.audit.log import AuditLog
from inference.database import Database
from inference.disclosure_book import DisclosureBook
from inference.errors import RequestError
from inference.limits import Buckets, Rate
from inference.receipts import SignedReceipt, find_receipt
from registry.errors import CanonicalError
from registry.signing.canonical import decode_object
from registry.signing.signer import Signer
from registry.signing.typed_data import Domain

# Seconds between two sweeps.
SWEEP_S: Final = 60
_BURST: Final = 20


@dataclass
class Disclosures:
    """Answers auditors.

    `windows` asks the chain which calls the beacon chooses, `confirms` a payer that is a contract.
    """

    book: DisclosureBook
    database: Database
    log: AuditLog
    signer: Signer
    domain: Domain
    windows: Callable[[], tuple[Window, ...]]
    confirms: Confirms = lambda _payer, _digest, _signature: False
    # What the chain said last: a window that is known does not change.
    _known: tuple[Window, ...] = field(default=(), init=False)

    @property
    def buckets(self) -> Buckets:
        """Return a fresh count of how often each auditor asks, for one event loop."""
        return Buckets(Rate(self.book.config.per_minute, _BURST), "auditor")

    def read(self, body: bytes) -> DisclosureRequest:
        """Take step 1's first half. Raises `RequestError`."""
        try:
            return DisclosureRequest.from_json(decode_object(body, max_bytes=MAX_REQUEST_BYTES))
        except (CanonicalError, FormatError) as error:
            raise RequestError(f"no request for disclosure: {error.message}") from error

    def answer(self, request: DisclosureRequest) -> Disclosed | Refusal:
        """Take steps 1 to 4. Waits for database and chain: call it from a thread.

        Raises `NotAllowedError`, also for a call that is not known here: who may not see a call
        need not learn whether there was one.
        """
        signed = self.database.read(lambda tx: find_receipt(tx, request.receipt))
        if signed is None:
            raise NotAllowedError(f"no receipt {request.receipt} here that you may see")
        now = int(time.time())
        check_request(
            request,
            signed.receipt,
            self.domain,
            now=now,
            chooses=self._chooses,
            confirms=self.confirms,
        )
        if found := self.database.read(lambda tx: self.book.find(tx, signed, now=now)):
            return found
        return self.database.write_now(lambda tx: self._refuse(tx, request, signed, now))

    async def run(self) -> None:
        """Sweep for ever; a sweep that fails is made up for by the next."""
        while True:
            with suppress(Exception):  # a door: an odd error must not end it for ever
                while await asyncio.to_thread(self.sweep):
                    continue
            await asyncio.sleep(SWEEP_S)

    def sweep(self) -> int:
        """Delete some of what is not to be kept any longer; return how many calls."""
        return self.database.write_now(lambda tx: self.book.sweep(tx, now=int(time.time())))

    def _chooses(self, seq: int, rate: int) -> bool:
        if window_of(self._known, seq) is None:
            self._known = self.windows()
        window = window_of(self._known, seq)
        return window is not None and window.chooses(seq, rate)

    def _refuse(
        self, tx: Connection, request: DisclosureRequest, signed: SignedReceipt, now: int
    ) -> Refusal:
        if before := self.book.refusal(tx, signed.receipt.id):
            return before
        refusal = Refusal.sign(self.signer, self.domain, request, why=NOT_KEPT, at=now)
        self.log.append(tx, entry_of(self.log.size(tx), refusal))
        self.book.refuse(tx, refusal)
        return refusal
