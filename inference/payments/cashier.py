"""The cashier: turns a payment header into a `Secured` call, and a finished call into its answer.

It joins offers, verification, the ledgers and the mover into the moments of money in a call:
offer, reserve, collect, book, answer. What is written is on disk before anything that depends on
it leaves the node.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection

from inference.database import Database
from inference.errors import NodeError, PaymentRefusedError, UnavailableError
from inference.payments import exact
from inference.payments.account import OnchainChannel
from inference.payments.authorizations import AuthorizationBook
from inference.payments.channel import DepositPayment, parse_batch_payload
from inference.payments.channel_limits import ChannelLimits
from inference.payments.eip3009 import MARGIN_S, Authorization
from inference.payments.exact import (
    VerifiedAuthorization,
    parse_authorization,
    verify_authorization,
)
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import Mover
from inference.payments.offers import Offers, offers_on
from inference.payments.reservation import Reservation
from inference.payments.secured import Booked, DepositedError, Moved, Secured
from inference.payments.verification import Terms, VerifiedPayment, verify_payment
from inference.payments.wallet import Approval, WalletSignatureError
from inference.payments.wanted import Claim, Wanted
from inference.payments.x402 import PaymentPayload
from registry.errors import WeightproofError

_ZERO: Final = bytes(32)
_Verified = TypeVar("_Verified", VerifiedPayment, exact.VerifiedAuthorization)
_EXPIRED: Final = "invalid_exact_evm_payload_authorization_valid_before"


@dataclass(frozen=True)
class Cashier:
    """Takes payments on `terms`."""

    database: Database
    ledger: ChannelLedger
    authorizations: AuthorizationBook
    mover: Mover
    terms: Terms
    limits: ChannelLimits = field(default_factory=ChannelLimits)
    # Hears who pays once that is proven, before the chain or the database is asked; may refuse.
    admit: Callable[[str], None] = lambda _: None

    @property
    def network(self) -> str:
        """The chain as x402 names it."""
        return f"eip155:{self.terms.token.chain_id}"

    def offers(self, url: str, amount: int) -> Offers:
        """Return the offers for a call that costs at most `amount`: channels first."""
        return offers_on(self.terms, url, amount)

    async def reserve(
        self,
        payment: PaymentPayload,
        offers: Offers,
        *,
        least: int,
        stream: bool = False,
        binding: bytes = b"",
        claim: Claim = lambda _tx, _reservation: None,
    ) -> Secured:
        """Verify a payment against the offers and secure the call's quote.

        `least` is what the call must cost, in atomic units. A `stream` on a channel is charged its
        quote at once, since its head tells the payer so: `stream_head` makes that head. `binding`
        is what an `exact` payment is bound to, `claim` is run beside the reservation. Raises
        `PaymentRefusedError` with the x402 code, `UnavailableError` when the chain is needed and
        does not answer, `AlreadyAnsweredError`, `DepositedError` when a deposit moved and the call
        was refused after it.
        """
        offer = offers.match(payment)
        now = int(time.time())
        least = offer.amount if stream else least
        wanted = Wanted(offer.amount, least, stream, now, binding, claim)
        if offer.scheme == exact.SCHEME:
            return await self._reserve_exact(payment, wanted)
        parsed = parse_batch_payload(payment.payload)
        verified = await self._approved(partial(verify_payment, parsed, self.terms, now=now))
        # The key that signed; whose name stands in the channel's config is not proven by it.
        self.admit(verified.payment.config.payer_authorizer)
        if isinstance(verified.payment, DepositPayment):
            return await self._reserve_deposit(verified, wanted)
        reservation = await self._reserve_channel(verified, wanted, None)
        if reservation is None:
            state = await self.mover.channel_state(verified.channel_id, now=now)
            reservation = await self._reserve_channel(verified, wanted, state)
        return Secured(_made(reservation), verified)

    def stream_head(self, secured: Secured) -> str:
        """Return the PAYMENT-RESPONSE of a stream's head; its quote was charged by `reserve`."""
        return self._booked(secured, 0, 0, secured.reservation.extra()).response({})

    async def collect(self, secured: Secured) -> Secured:
        """Move the money of an `exact` payment; a channel's is claimed later."""
        payment = secured.payment
        if not isinstance(payment, exact.VerifiedAuthorization) or secured.moved is not None:
            return secured
        moved = await self.mover.transfer(secured.reservation, payment, since=secured.since)
        return replace(secured, moved=moved)

    def may_have_moved(self, payment: PaymentPayload) -> bool:
        """Say whether an `exact` payment moved, or may have: then it is not asked for again."""
        if payment.scheme != exact.SCHEME:
            return False
        book, token = self.authorizations, self.terms.token
        authorization = parse_authorization(payment.payload)
        return self.database.read(lambda tx: book.may_have_moved(tx, token, authorization))

    def leave_open(self, secured: Secured) -> None:
        """Note, as soon as the database can, that an `exact` payment moved and was not booked."""
        moved = secured.moved.transaction if secured.moved else None
        self.database.insist(lambda tx: self.authorizations.unknown(tx, secured.reservation, moved))

    def book(
        self,
        tx: Connection,
        secured: Secured,
        charged: int,
        *,
        told: bool = True,
        receipt_id: str = "",
    ) -> Booked:
        """End a call's reservation with what it cost, in the caller's transaction.

        A call that failed costs 0: its reservation is released. `told` is False for a stream that
        failed before its head was sent: nobody was told of its charge, which is taken back. Raises
        `PaymentRefusedError` when siblings used up the ceiling they share; the answer must be
        withheld then.
        """
        reservation = secured.reservation
        if secured.scheme == exact.SCHEME:
            return self._book_exact(tx, secured, charged, receipt_id)
        if charged and not told:
            raise NodeError("a stream that nobody was told of cannot be charged")
        if charged or (told and reservation.purpose == "stream"):
            ended = self.ledger.commit(tx, reservation, charged)
        else:
            ended = self.ledger.release(tx, reservation)
        return self._booked(secured, charged, ended.claimable, ended.extra())

    async def _approved(self, verify: Callable[..., _Verified]) -> _Verified:
        """Verify; where all is well but the signature no key's, ask the payer's contract."""
        try:
            return verify()
        except WalletSignatureError as question:
            return verify(approval=await self.mover.approval(question))

    async def _reserve_channel(
        self, verified: VerifiedPayment, wanted: Wanted, state: OnchainChannel | None
    ) -> Reservation | None:
        """Reserve; None when the chain must be asked first, and `state` is what it said.

        A call's reservation need not be on disk before its work begins. Its answer leaves after
        the charge is, which brings the voucher and the reservation there too; after a power cut
        before that the call is lost uncharged, as it would be if its reservation were found. A
        stream is charged here and its head leaves upon it; a deposit has moved already.
        """

        def reserve(tx: Connection) -> Reservation | None:
            quote, least, now = wanted.quote, wanted.least, wanted.now
            # In one transaction: a stream that does not fit is refused before any work, with the
            # correction its client recovers from.
            self.authorizations.check_payer(tx, verified)
            if state is None:
                reservation = self.ledger.reserve_known(
                    tx, verified, quote=quote, least=least, now=now
                )
                if reservation is None:
                    return None
            else:
                if not isinstance(verified.payment, DepositPayment):  # checked before it moved
                    self._check_new(tx, verified)
                reservation = self.ledger.reserve(
                    tx, verified, quote=quote, least=least, state=state, now=now
                )
            wanted.claim(tx, reservation)
            return self.ledger.prepay(tx, reservation) if wanted.stream else reservation

        lasting = wanted.stream or isinstance(verified.payment, DepositPayment)
        return await self.database.write(reserve, durable=lasting, brief=True)

    def _check_new(self, tx: Connection, verified: VerifiedPayment) -> None:
        """Refuse one channel too many; those that are known go on."""
        if self.limits and self.ledger.account(tx, verified.channel_id) is None:
            self.limits.check(tx, verified.payment.config.payer)

    async def _reserve_deposit(self, verified: VerifiedPayment, wanted: Wanted) -> Secured:
        """Bring the deposit in first: no work is done on a promise of one."""
        quote, least, now = wanted.quote, wanted.least, wanted.now
        before = await self.mover.channel_state(verified.channel_id, now=now)

        def check(tx: Connection) -> None:
            self._check_new(tx, verified)
            self.ledger.check_deposit(tx, verified, quote=quote, least=least, state=before, now=now)

        await self.database.write(check)
        moved = await self.mover.deposit(verified, now=now)
        try:
            after = await self.mover.channel_state(verified.channel_id, now=now)
            reservation = await self._reserve_channel(verified, wanted, after)
        except WeightproofError as error:
            if moved is None:
                raise
            raise DepositedError(error, moved, verified.payment.config.payer) from error
        return Secured(_made(reservation), verified, moved)

    async def _reserve_exact(self, payment: PaymentPayload, wanted: Wanted) -> Secured:
        parsed = parse_authorization(payment.payload)
        verified = await self._approved(partial(self._verified, parsed, wanted))
        self.admit(verified.authorization.payer)

        def reserve(tx: Connection) -> Reservation:
            reservation = self.authorizations.reserve(
                tx, verified, now=wanted.now, binding=wanted.binding
            )
            wanted.claim(tx, reservation)
            return reservation

        reservation = await self.mover.taken(reserve, verified.authorization)
        if reservation.paid_in:
            return Secured(reservation, verified, Moved(reservation.paid_in, reservation.amount))
        secured = Secured(reservation, verified)
        try:
            return replace(secured, since=await self.mover.check(verified))
        except (PaymentRefusedError, UnavailableError):
            await self.database.insist(lambda tx: self.authorizations.give_up(tx, reservation))
            raise

    def _verified(
        self, authorization: Authorization, wanted: Wanted, approval: Approval | None = None
    ) -> VerifiedAuthorization:
        def verified(at: int) -> VerifiedAuthorization:
            return verify_authorization(
                authorization,
                token=self.terms.token,
                pay_to=self.terms.receiver,
                amount=wanted.quote,
                now=at,
                approval=approval,
            )

        try:
            return verified(wanted.now)
        except PaymentRefusedError as refusal:
            book, token = self.authorizations, self.terms.token
            if refusal.code != _EXPIRED or not self.database.read(
                lambda tx: book.may_have_moved(tx, token, authorization)
            ):
                raise
            # Its time is for moving it. Who paid in time is not asked to pay again.
            return verified(authorization.valid_before - MARGIN_S)

    def _book_exact(
        self, tx: Connection, secured: Secured, charged: int, receipt_id: str
    ) -> Booked:
        """Settle the authorisation with the receipt, so that a crash leaves both or neither."""
        if secured.moved is None or charged != secured.reservation.amount:
            pending = self.authorizations.abandon(tx, secured.reservation)
            return replace(self._booked(secured, charged, charged, {}, False), pending=pending)
        self.authorizations.settled(
            tx, secured.reservation, secured.moved.transaction, receipt_id or None
        )
        return self._booked(secured, charged, charged, {})

    def _booked(
        self,
        secured: Secured,
        charged: int,
        cumulative: int,
        extra: Mapping[str, object],
        success: bool = True,
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
            # A channel's client books also a failed call, with its charge of 0.
            success=success,
        )


def _made(reservation: Reservation | None) -> Reservation:
    if reservation is None:
        raise UnavailableError("the chain was asked about this channel, and must be asked again")
    return reservation


def _digest(text: str) -> bytes:
    return bytes.fromhex(text[2:]) if text else _ZERO
