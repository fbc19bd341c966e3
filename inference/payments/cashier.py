"""The cashier: turns a payment header into a `Secured` call, and a finished call into its answer.

It joins offers, verification, the ledgers and the mover into the moments of money in a call:
offer, reserve, collect, book, answer. What is written is on disk before anything that depends on
it leaves the node.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from inference.database import Database
from inference.errors import PaymentRefusedError, UnavailableError
from inference.payments import books, channel, exact
from inference.payments.authorizations import AuthorizationBook
from inference.payments.channel import DepositPayment, parse_batch_payload
from inference.payments.exact import parse_authorization, verify_authorization
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import Mover
from inference.payments.offers import Offers
from inference.payments.reservation import Reservation
from inference.payments.secured import Booked, Secured
from inference.payments.verification import Terms, VerifiedPayment, verify_payment
from inference.payments.x402 import PaymentPayload, Requirements, settle_response

# Seconds a signed authorisation stays good: time for a slow generation and a slow block.
PAYMENT_WINDOW_S: Final = 600
_ZERO: Final = bytes(32)


@dataclass(frozen=True)
class Cashier:
    """Takes payments on `terms`."""

    database: Database
    ledger: ChannelLedger
    authorizations: AuthorizationBook
    mover: Mover
    terms: Terms

    @property
    def network(self) -> str:
        """The chain as x402 names it."""
        return f"eip155:{self.terms.token.chain_id}"

    def offers(self, url: str, amount: int) -> Offers:
        """Return the offers for a call that costs at most `amount`: channels first."""
        token = self.terms.token
        entry = Requirements(
            scheme=channel.SCHEME,
            network=self.network,
            amount=amount,
            asset=token.address,
            pay_to=self.terms.receiver,
            max_timeout_seconds=PAYMENT_WINDOW_S,
            extra=self.terms.extra(),
        )
        extra = {"name": token.name, "version": token.version}
        return Offers(url, (entry, replace(entry, scheme=exact.SCHEME, extra=extra)))

    async def reserve(self, payment: PaymentPayload, offers: Offers, *, least: int) -> Secured:
        """Verify a payment against the offers and secure the call's quote.

        `least` is what the call must cost, in atomic units. Raises `PaymentRefusedError` with the
        x402 code, `UnavailableError` when the chain is needed and does not answer.
        """
        offer = offers.match(payment)
        now = int(time.time())
        if offer.scheme == exact.SCHEME:
            return await self._reserve_exact(payment, offer, now)
        verified = verify_payment(parse_batch_payload(payment.payload), self.terms, now=now)
        if isinstance(verified.payment, DepositPayment):
            return await self._reserve_deposit(verified, offer.amount, least, now)
        state = None
        if self.database.read(lambda tx: self.ledger.needs_state(tx, verified, now=now)):
            state = await self.mover.channel_state(verified.channel_id, now=now)
        reservation = await self.database.write(
            lambda tx: self.ledger.reserve(
                tx, verified, quote=offer.amount, least=least, state=state, now=now
            )
        )
        return Secured(reservation, verified)

    async def prepay(self, secured: Secured) -> tuple[Secured, str]:
        """Charge a stream's quote before its head leaves; return the head's PAYMENT-RESPONSE."""
        reservation = await self.database.write(
            lambda tx: self.ledger.prepay(tx, secured.reservation)
        )
        prepaid = replace(secured, reservation=reservation)
        booked = self._booked(prepaid, 0, 0, reservation.extra())
        return prepaid, self.response(booked, {})

    async def collect(self, secured: Secured) -> Secured:
        """Move the money of an `exact` payment; a channel's is claimed later."""
        payment = secured.payment
        if not isinstance(payment, exact.VerifiedAuthorization):
            return secured
        moved = await self.mover.transfer(secured.reservation, payment)
        return replace(secured, moved=moved)

    async def give_up(self, secured: Secured) -> None:
        """Release an `exact` authorisation whose call failed before it was collected."""
        if secured.scheme == exact.SCHEME:
            await self.database.write(
                lambda tx: self.authorizations.give_up(tx, secured.reservation)
            )

    def book(self, tx: Connection, secured: Secured, charged: int) -> Booked:
        """End a call's reservation with what it cost, in the caller's transaction.

        A call that failed costs 0: its reservation is released. Raises `PaymentRefusedError` when
        siblings used up the ceiling they share; the answer must be withheld then.
        """
        reservation = secured.reservation
        if secured.scheme == exact.SCHEME:
            return self._booked(secured, charged, charged, {})
        if charged or reservation.purpose == "stream":
            extra = self.ledger.commit(tx, reservation, charged).extra()
        else:
            self.ledger.release(tx, reservation)
            extra = {"chargedAmount": "0"}
        account = self.ledger.account(tx, reservation.channel_id)
        if account is None:
            raise UnavailableError(f"the ledger lost channel {reservation.channel_id}")
        extra["channelState"] = account.state()
        cumulative = account.claimable(books.opened(tx, reservation.channel_id))
        return self._booked(secured, charged, cumulative, extra)

    def response(self, booked: Booked, extensions: Mapping[str, object]) -> str:
        """Return the PAYMENT-RESPONSE of a finished call."""
        return settle_response(
            success=booked.success,
            network=booked.network,
            payer=booked.payer,
            transaction="0x" + booked.moved.transaction.hex() if booked.moved else "",
            amount=booked.moved.amount if booked.moved else None,
            error=None if booked.success else ("not_served", "nothing was served or charged"),
            extra=booked.extra,
            extensions=extensions,
        )

    async def _reserve_deposit(
        self, verified: VerifiedPayment, quote: int, least: int, now: int
    ) -> Secured:
        """Bring the deposit in first: no work is done on a promise of one."""
        before = await self.mover.channel_state(verified.channel_id, now=now)
        await self.database.write(
            lambda tx: self.ledger.check_deposit(
                tx, verified, quote=quote, least=least, state=before, now=now
            )
        )
        moved = await self.mover.deposit(verified, now=now)
        after = await self.mover.channel_state(verified.channel_id, now=now)
        reservation = await self.database.write(
            lambda tx: self.ledger.reserve(
                tx, verified, quote=quote, least=least, state=after, now=now
            )
        )
        return Secured(reservation, verified, moved)

    async def _reserve_exact(
        self, payment: PaymentPayload, offer: Requirements, now: int
    ) -> Secured:
        verified = verify_authorization(
            parse_authorization(payment.payload),
            token=self.terms.token,
            pay_to=self.terms.receiver,
            amount=offer.amount,
            now=now,
        )
        reservation = await self.database.write(
            lambda tx: self.authorizations.reserve(tx, verified, now=now)
        )
        secured = Secured(reservation, verified)
        try:
            await self.mover.check(verified)
        except (PaymentRefusedError, UnavailableError):
            await self.give_up(secured)
            raise
        return secured

    def _booked(
        self, secured: Secured, charged: int, cumulative: int, extra: Mapping[str, object]
    ) -> Booked:
        reservation: Reservation = secured.reservation
        return Booked(
            scheme=secured.scheme,
            network=self.network,
            asset=self.terms.token.address,
            payer=reservation.payer,
            pay_to=self.terms.receiver,
            channel=_digest(reservation.channel_id),
            nonce=_digest(reservation.nonce),
            quote=reservation.amount,
            charged=charged,
            cumulative=cumulative,
            moved=secured.moved,
            extra=extra,
            # A failed `exact` payment moved nothing; a channel's client books its charge of 0.
            success=bool(charged) or secured.scheme != exact.SCHEME,
        )


def _digest(text: str) -> bytes:
    return bytes.fromhex(text[2:]) if text else _ZERO
