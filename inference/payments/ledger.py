"""The ledger of channels: what was promised, reserved, charged and may be claimed.

Every method takes the transaction it works in, so that a call's charge, receipt and log entry
become durable together. The arithmetic is in `account`, the rows in `books`, nothing in memory.

A call goes `reserve` → work → `commit`, or `release` when it failed. For a stream, `prepay`
charges the quote before its head leaves, because the head must state a charge before the length
is known; what was not used becomes credit at `commit`.
A refund goes `reserve_refund` → chain → `finish_refund`.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy import Connection

from inference.errors import NodeError, UnavailableError
from inference.payments import books
from inference.payments.account import Account, OnchainChannel, Open, Wish
from inference.payments.channel import SCHEME, ChannelConfig, DepositPayment, RefundPayment, refuse
from inference.payments.claim import Claim, claim_of
from inference.payments.reservation import Committed, Reservation, make_reservation
from inference.payments.verification import VerifiedPayment


@dataclass(frozen=True)
class RefundPlan:
    """An admitted refund: claim what is owed, then refund `amount` under `nonce`."""

    reservation: Reservation
    config: ChannelConfig
    claim: Claim | None
    amount: int
    nonce: int


@dataclass(frozen=True)
class Recovered:
    """What was in flight when a node's process ended. Calls and streams were ended, uncharged.

    The outcome of `refunds` only the chain knows: `finish_refund` or `release` them.
    """

    calls: tuple[Reservation, ...]
    refunds: tuple[Reservation, ...]


class ChannelLedger:
    """The channels of this node.

    `in_flight` bounds the calls of one channel that share its ceiling; 1 serialises them.
    `fresh_s` is how old, in seconds, a view of the chain may be: far below the shortest withdraw
    delay (900), so that a withdrawal is seen while its vouchers can still be claimed.
    """

    def __init__(self, *, in_flight: int = 8, fresh_s: int = 300) -> None:
        self._in_flight: Final = in_flight
        self._fresh_s: Final = fresh_s

    def account(self, tx: Connection, channel_id: str) -> Account | None:
        """Return a channel's account, None for an unknown one."""
        return books.account(tx, channel_id)

    def needs_state(self, tx: Connection, payment: VerifiedPayment, *, now: int) -> bool:
        """Say whether the chain must be asked before `reserve`; `now` in unix seconds."""
        return self._needs_state(books.account(tx, payment.channel_id), payment, now)

    def check_deposit(
        self,
        tx: Connection,
        payment: VerifiedPayment,
        *,
        quote: int,
        least: int | None = None,
        state: OnchainChannel,
        now: int,
    ) -> None:
        """Refuse a deposit after which `reserve` would refuse. Changes nothing.

        `state` is the chain's view before the deposit.
        """
        if not isinstance(payment.payment, DepositPayment):
            raise refuse("payload_type", "not a deposit")
        after = replace(state, balance=state.balance + payment.payment.amount)
        before = books.locked(tx, payment.channel_id)
        self._admit(tx, payment, before, _wish(payment, quote, least), after, now)

    def reserve(
        self,
        tx: Connection,
        payment: VerifiedPayment,
        *,
        quote: int,
        least: int | None = None,
        state: OnchainChannel | None = None,
        now: int,
    ) -> Reservation:
        """Reserve `quote` on the voucher's channel, and store the voucher.

        `least` is what the call must cost: calls in flight share one ceiling as far as that
        allows; without it they must all fit with their quotes. `state` is a view of the chain
        just read, needed where `needs_state` says so; after a deposit it is the view with the
        deposit. `now` is in unix seconds. Raises `PaymentRefusedError`, of which
        `CorrectivePaymentError` tells the client where the channel stands.
        """
        before = books.locked(tx, payment.channel_id)
        return self._reserve(tx, payment, before, _wish(payment, quote, least), state, now)

    def reserve_known(
        self, tx: Connection, payment: VerifiedPayment, *, quote: int, least: int, now: int
    ) -> Reservation | None:
        """Like `reserve`; None where the chain must be asked before, as `needs_state` says."""
        before = books.locked(tx, payment.channel_id)
        if self._needs_state(before, payment, now):
            return None
        return self._reserve(tx, payment, before, _wish(payment, quote, least), None, now)

    def prepay(self, tx: Connection, reservation: Reservation) -> Reservation:
        """Charge the whole quote of a stream, before its head leaves; may follow `reserve` at once.

        The reservation returned says what the head tells the payer. Raises `PaymentRefusedError`
        when calls in flight leave no room for the quote.
        """
        before, opened, own = _find(tx, reservation)
        after, own = before.prepay(own, opened)
        books.store(tx, before, after)
        books.change(tx, own)
        return _reservation(after, own)

    def commit(self, tx: Connection, reservation: Reservation, actual: int) -> Committed:
        """Charge `actual` ≤ the quote and end the reservation.

        Raises `PaymentRefusedError` (channel_busy) when siblings used up the ceiling they share:
        the answer must be withheld then, and the reservation released. Cannot happen to a call
        that had the channel to itself, nor to a stream.
        """
        account, opened, own = _find(tx, reservation)
        after = account.commit(own, actual)
        books.store(tx, account, after)
        books.end(tx, own.id)
        told = own.told if own.kind == "stream" else after.charged - account.charged
        return _committed(after, opened, own, actual, told)

    def release(self, tx: Connection, reservation: Reservation) -> Committed:
        """End a reservation; nothing was charged and the payer was told of no charge.

        After a stream's head was sent, use `commit` with 0: the payer has booked the quote.
        """
        account, opened, own = _find(tx, reservation)
        after = account.release(own, alone=len(opened) == 1)
        books.store(tx, account, after)
        books.end(tx, own.id)
        return _committed(after, opened, own, 0, 0)

    def reserve_refund(
        self, tx: Connection, payment: VerifiedPayment, *, state: OnchainChannel, now: int
    ) -> RefundPlan:
        """Admit a refund and bar the channel until it is finished or released."""
        if not isinstance(payment.payment, RefundPayment):
            raise refuse("payload_type", "not a refund")
        before = books.locked(tx, payment.channel_id)
        if before is None:
            raise refuse("missing_channel", f"this node knows no channel {payment.channel_id}")
        after = before.mirrored(state)
        opened, asked = books.opened(tx, after.channel_id), payment.payment
        amount = after.admit_refund(opened, asked.voucher, asked.amount)
        own = Open(secrets.token_hex(16), "refund", amount, 0, after.charged)
        books.store(tx, before, after)
        books.add(tx, after.channel_id, own, now=now)
        return RefundPlan(
            reservation=_reservation(after, own),
            config=after.config,
            claim=claim_of(after, ()),
            amount=amount,
            nonce=after.chain.refund_nonce,
        )

    def finish_refund(
        self, tx: Connection, reservation: Reservation, state: OnchainChannel
    ) -> Committed:
        """End a refund with the chain's view after it; right also if it did not happen.

        The result's `actual` and `told` are 0.
        """
        before, opened, own = _find(tx, reservation)
        after = before.mirrored(state)
        if after.chain.balance <= after.owed:
            after = after.closed()
        books.store(tx, before, after)
        books.end(tx, own.id)
        return _committed(after, opened, own, 0, 0)

    def stale_refunds(self, tx: Connection, *, before: int) -> list[Reservation]:
        """Return refunds that began before a unix second: their outcome was not seen.

        Their channels take no calls until `finish_refund` or `release` ends them.
        """
        found = [(books.account(tx, id), own) for id, own in books.refunds(tx, before=before)]
        return [_reservation(account, own) for account, own in found if account is not None]

    def mirror(self, tx: Connection, channel_id: str, state: OnchainChannel) -> Account | None:
        """Store a newer view of the chain; unknown channels stay unknown."""
        before = books.locked(tx, channel_id)
        if before is None:
            return None
        after = before.mirrored(state)
        books.store(tx, before, after)
        return after

    def claims(self, tx: Connection) -> list[Claim]:
        """Return what can be claimed now, pending withdrawals first."""
        opened: dict[str, list[Open]] = {}
        for channel_id, call in books.all_opened(tx):
            opened.setdefault(channel_id, []).append(call)
        found = [claim_of(a, opened.get(a.channel_id, [])) for a in books.accounts(tx)]
        return sorted(filter(None, found), key=lambda c: c.withdraw_requested_at or 2**64)

    def recover(self, tx: Connection, instance: str) -> Recovered:
        """End what was in flight of an instance whose process is gone.

        No answer of a call left before its commit, so calls are released. A stream's head may
        have left: its quote stays charged and becomes credit, which both cases can live with.
        """
        ended, refunds = [], []
        for channel_id, own in books.opened_by(tx, instance):
            before = books.locked(tx, channel_id)
            if before is None:
                raise NodeError(f"the database lost channel {channel_id}")
            if own.kind == "refund":
                refunds.append(_reservation(before, own))
                continue
            after = before.commit(own, 0) if own.kind == "stream" else before
            books.store(tx, before, after)
            books.end(tx, own.id)
            ended.append(_reservation(after, own))
        return Recovered(tuple(ended), tuple(refunds))

    def _needs_state(self, account: Account | None, payment: VerifiedPayment, now: int) -> bool:
        if account is None or now - account.chain.read_at > self._fresh_s:
            return True
        # A balance that does not suffice may have been topped up since.
        return payment.payment.voucher.max_claimable > account.chain.usable

    def _reserve(
        self,
        tx: Connection,
        payment: VerifiedPayment,
        before: Account | None,
        wish: Wish,
        state: OnchainChannel | None,
        now: int,
    ) -> Reservation:
        if isinstance(payment.payment, RefundPayment):
            raise refuse("payload_type", "a refund pays for nothing")
        after, own = self._admit(tx, payment, before, wish, state, now)
        books.store(tx, before, after, now=now)
        books.add(tx, after.channel_id, own, now=now)
        return _reservation(after, own)

    def _admit(
        self,
        tx: Connection,
        payment: VerifiedPayment,
        before: Account | None,
        wish: Wish,
        state: OnchainChannel | None,
        now: int,
    ) -> tuple[Account, Open]:
        if before is not None:
            now_seen = before.mirrored(state) if state else before
            opened = books.opened(tx, payment.channel_id)
        elif state is not None:
            now_seen = Account.opened(payment.channel_id, payment.payment.config, state)
            opened = ()
        else:
            raise UnavailableError("the chain was not asked about this channel yet")
        if now - now_seen.chain.read_at > self._fresh_s:
            raise UnavailableError("the chain's view of this channel is too old")
        return now_seen.admit(opened, wish, in_flight=self._in_flight)


def _wish(payment: VerifiedPayment, quote: int, least: int | None) -> Wish:
    least = quote if least is None else least
    if not 0 <= least <= quote:
        raise NodeError(f"a call cannot cost {least} at the least and {quote} at most")
    return Wish(secrets.token_hex(16), payment.payment.voucher, quote, least)


def _find(tx: Connection, reservation: Reservation) -> tuple[Account, tuple[Open, ...], Open]:
    account = books.locked(tx, reservation.channel_id)
    opened = books.opened(tx, reservation.channel_id)
    own = next((call for call in opened if call.id == reservation.id), None)
    if account is None or own is None:
        raise NodeError(f"reservation {reservation.id} has ended already")
    return account, opened, own


def _reservation(account: Account, own: Open) -> Reservation:
    return make_reservation(
        id=own.id,
        scheme=SCHEME,
        purpose=own.kind,
        payer=account.config.payer,
        amount=own.amount,
        channel_id=account.channel_id,
        told=own.told,
        state=account.state() if own.kind == "stream" else None,
    )


def _committed(
    after: Account, opened: tuple[Open, ...], own: Open, actual: int, told: int
) -> Committed:
    claimable = after.claimable([other for other in opened if other.id != own.id])
    return Committed(actual, told, after.charged, after.credit, claimable, after.state())
