"""EIP-3009 authorisations spent at this node: each (asset, payer, nonce) is used once.

::

    reserved ──► settling ──► settled
       │            ├───────► unknown ──► settled (deposit) | paid (exact) | released
       ▼            ▼                      paid ◄──► serving ──► settled
    released ◄──────┘          a released one may be presented again

`settling` is stored before the transaction is sent, so that no crash can forget that money may
have moved; what became of it is asked of the token (`authorizationState`), by anybody, any time
later. An unknown outcome stays unknown until the chain says: the payer is never asked to pay again.
While it is `settling`, only the call that sends it may move it; a failed call or a restart makes
it unknown. An exact payment becomes settled in the transaction that stores its receipt. One that
moved without an answer is `paid`: the same payment with the same request is served for it, and
nothing is moved again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from inference import instances, schema
from inference.errors import (
    AlreadyAnsweredError,
    InProgressError,
    NodeError,
    PaymentRefusedError,
)
from inference.payments.channel import SCHEME as BATCH
from inference.payments.channel import DepositPayment, refuse
from inference.payments.eip3009 import Authorization, Token
from inference.payments.exact import SCHEME as EXACT
from inference.payments.exact import VerifiedAuthorization
from inference.payments.reservation import Purpose, Reservation, make_reservation
from inference.payments.verification import Terms, VerifiedPayment

_TABLE: Final = schema.authorizations
_MAY_HAVE_MOVED: Final = ("settling", "unknown")
_MOVED: Final = ("paid", "serving", "settled")
# What a call that ends without an answer leaves behind, as long as nothing of its own was sent.
_GIVEN_UP: Final = (("reserved", "released"), ("serving", "paid"))
_USED: Final = "invalid_exact_evm_nonce_already_used"


@dataclass(frozen=True)
class Unsettled:
    """An authorisation whose transaction was sent, or about to be, by nobody knows what outcome.

    It is settled once the token says that its nonce is used, and can be released once
    `valid_before` (unix seconds) has passed on chain without that.
    """

    reservation: Reservation
    asset: str
    valid_before: int
    tx_hash: bytes | None


class AuthorizationBook:
    """The authorisations of this node; every method works in the caller's transaction."""

    def reserve(
        self,
        tx: Connection,
        verified: VerifiedAuthorization,
        *,
        now: int,
        binding: bytes = b"",
    ) -> Reservation:
        """Take an exact payment's authorisation for one call; `now` in unix seconds.

        However many copies arrive, one gets it. The others are refused: with the same `binding`
        (of request and payment) by `InProgressError` or `AlreadyAnsweredError`, else by
        `PaymentRefusedError`. The reservation of a payment that moved for nothing has `paid_in`.
        """
        taken = _take(tx, verified.authorization, verified.token, "exact", "", now, binding)
        if taken is None:
            raise PaymentRefusedError(_USED, "this authorisation was used before")
        return taken

    def may_have_moved(self, tx: Connection, token: Token, authorization: Authorization) -> bool:
        """Say whether this node knows that an authorisation moved, or does not know it."""
        state = tx.execute(select(_TABLE.c.state).filter_by(**_key(token, authorization))).scalar()
        return state in (*_MAY_HAVE_MOVED, *_MOVED)

    def check_payer(self, tx: Connection, payment: VerifiedPayment) -> None:
        """Refuse a channel in the name of somebody who has signed nothing here.

        Anybody can fund one on chain that names another as its payer, whose plans, limits and
        answers it would then use. A deposit through this node is signed by the payer itself.
        """
        config = payment.payment.config
        if config.payer_authorizer == config.payer or isinstance(payment.payment, DepositPayment):
            return
        settled = select(_TABLE.c.nonce).where(
            _TABLE.c.channel_id == payment.channel_id,
            _TABLE.c.purpose == "deposit",
            _TABLE.c.state == "settled",
        )
        if tx.execute(settled.limit(1)).first() is None:
            message = f"{config.payer} has signed nothing here: deposit through this node first"
            raise refuse("voucher_signature", message)

    def reserve_deposit(
        self, tx: Connection, payment: VerifiedPayment, terms: Terms, *, now: int
    ) -> Reservation | None:
        """Take a deposit's authorisation; None when it has been deposited already.

        Raises `PaymentRefusedError` (channel_busy) while another copy is being deposited.
        """
        deposit = payment.payment
        if not isinstance(deposit, DepositPayment):
            raise refuse("payload_type", "not a deposit")
        authorization = deposit.authorization(terms.collector)
        return _take(tx, authorization, terms.token, "deposit", payment.channel_id, now)

    def settling(
        self, tx: Connection, reservation: Reservation, tx_hash: bytes | None = None
    ) -> None:
        """Note that a transaction is about to be sent; its hash, where it is known already."""
        _move(tx, reservation, ("reserved", "settling"), "settling", tx_hash)

    def settled(
        self,
        tx: Connection,
        reservation: Reservation,
        tx_hash: bytes | None,
        receipt_id: str | None = None,
    ) -> None:
        """Note that the money moved, and the receipt of what it paid."""
        _move(tx, reservation, ("settling", "unknown", "serving"), "settled", tx_hash, receipt_id)

    def paid(self, tx: Connection, reservation: Reservation, tx_hash: bytes) -> None:
        """Note that an exact payment moved, and nothing was given for it yet."""
        _move(tx, reservation, ("unknown",), "paid", tx_hash)

    def unknown(self, tx: Connection, reservation: Reservation, tx_hash: bytes | None) -> None:
        """Note that nobody knows whether it moved."""
        _move(tx, reservation, _MAY_HAVE_MOVED, "unknown", tx_hash)

    def release(self, tx: Connection, reservation: Reservation) -> None:
        """Give the authorisation back: the money did not move, and no transaction is under way."""
        _move(tx, reservation, ("reserved", *_MAY_HAVE_MOVED), "released", None)

    def give_up(self, tx: Connection, reservation: Reservation) -> None:
        """Give an authorisation back if nothing was sent for it yet; else leave it as it is."""
        mine = _TABLE.c.reservation_id == reservation.id
        for before, after in _GIVEN_UP:
            tx.execute(update(_TABLE).where(mine, _TABLE.c.state == before).values(state=after))

    def abandon(self, tx: Connection, reservation: Reservation) -> bool:
        """End a failed call: give back what was not sent, leave to `unsettled` what was.

        Says whether the money may have moved.
        """
        mine = _TABLE.c.reservation_id == reservation.id
        self.give_up(tx, reservation)
        tx.execute(update(_TABLE).where(mine, _TABLE.c.state == "settling").values(state="unknown"))
        return tx.execute(select(_TABLE.c.state).where(mine)).scalar() in ("unknown", "paid")

    def unsettled(self, tx: Connection) -> list[Unsettled]:
        """Return what the chain must be asked about; not what a call is settling just now."""
        query = select(_TABLE).where(_TABLE.c.state == "unknown")
        return [_unsettled(row) for row in tx.execute(query.order_by(_TABLE.c.created_at))]

    def unsettled_one(
        self, tx: Connection, token: Token, authorization: Authorization
    ) -> Unsettled | None:
        """Return an authorisation if the chain must be asked about it."""
        query = select(_TABLE).filter_by(**_key(token, authorization), state="unknown")
        row = tx.execute(query).first()
        return None if row is None else _unsettled(row)

    def conclude(self, tx: Connection, unsettled: Unsettled, used_by: bytes) -> bool:
        """Note what the chain said: the transaction that used it, empty for none and never.

        False when somebody else has noted it meanwhile.
        """
        own = unsettled.reservation
        mine = (_TABLE.c.reservation_id == own.id, _TABLE.c.state == "unknown")
        if tx.execute(select(_TABLE.c.nonce).where(*mine).with_for_update()).first() is None:
            return False
        if not used_by:
            self.release(tx, own)
        elif own.purpose == "exact":
            self.paid(tx, own, used_by)
        else:
            self.settled(tx, own, used_by)
        return True

    def recover(self, tx: Connection, instance: str) -> None:
        """Release what an instance whose process is gone reserved and never sent.

        What it may have sent is `unsettled` from here on.
        """
        whose = _TABLE.c.instance == instance
        for before, after in (*_GIVEN_UP, ("settling", "unknown")):
            tx.execute(update(_TABLE).where(whose, _TABLE.c.state == before).values(state=after))


def _take(
    tx: Connection,
    authorization: Authorization,
    token: Token,
    purpose: Purpose,
    channel_id: str,
    now: int,
    binding: bytes = b"",
) -> Reservation | None:
    """Take an unused authorisation; None when it was settled."""
    key = _key(token, authorization)
    row = tx.execute(select(_TABLE).filter_by(**key).with_for_update()).first()
    state = None if row is None else row.state
    if row is not None and state != "released":
        if state == "settled" and purpose == "deposit":
            return None
        _check_free(row, binding)
    paid_in = bytes.fromhex(row.tx_hash[2:]) if row is not None and state == "paid" else b""
    reservation = make_reservation(
        id=secrets.token_hex(16),
        scheme=EXACT if purpose == "exact" else BATCH,
        purpose=purpose,
        payer=authorization.payer,
        amount=authorization.value,
        channel_id=channel_id,
        nonce=key["nonce"],
        paid_in=paid_in,
    )
    values = {
        "purpose": purpose,
        "reservation_id": reservation.id,
        "channel_id": channel_id or None,
        "amount": authorization.value,
        "valid_before": authorization.valid_before,
        "state": "serving" if paid_in else "reserved",
        "tx_hash": f"0x{paid_in.hex()}" if paid_in else None,
        "created_at": now,
        "binding": binding or None,
        "receipt_id": None,
        "instance": instances.of(tx),
    }
    if row is None:
        tx.execute(insert(_TABLE).values(key | values))
    else:
        tx.execute(update(_TABLE).filter_by(**key).values(values))
    return reservation


def _check_free(row: Row[Any], binding: bytes) -> None:
    """Refuse an authorisation that was used, is in use, or may have been."""
    if row.state in _MAY_HAVE_MOVED:
        raise PaymentRefusedError(
            "settlement_pending", "this payment is being settled; its outcome is not known yet"
        )
    if row.purpose == "deposit":
        raise InProgressError("this deposit is under way")
    if not binding or row.binding is None or bytes(row.binding) != binding:
        raise PaymentRefusedError(_USED, "this authorisation is used for another request")
    if row.state == "settled":
        moved_in = bytes.fromhex(row.tx_hash[2:]) if row.tx_hash else b""
        raise AlreadyAnsweredError(row.receipt_id or "", moved_in, row.amount)
    if row.state != "paid":
        raise InProgressError()


def _key(token: Token, authorization: Authorization) -> dict[str, str]:
    nonce = f"0x{authorization.nonce.hex()}"
    return {"asset": token.address, "payer": authorization.payer, "nonce": nonce}


def _unsettled(row: Row[Any]) -> Unsettled:
    reservation = make_reservation(
        id=row.reservation_id,
        scheme=EXACT if row.purpose == "exact" else BATCH,
        purpose=row.purpose,
        payer=row.payer,
        amount=row.amount,
        channel_id=row.channel_id or "",
        nonce=row.nonce,
    )
    tx_hash = None if row.tx_hash is None else bytes.fromhex(row.tx_hash[2:])
    return Unsettled(reservation, row.asset, row.valid_before, tx_hash)


def _move(
    tx: Connection,
    reservation: Reservation,
    before: tuple[str, ...],
    after: str,
    tx_hash: bytes | None,
    receipt_id: str | None = None,
) -> None:
    mine = _TABLE.c.reservation_id == reservation.id
    values = {"state": after} | ({"tx_hash": f"0x{tx_hash.hex()}"} if tx_hash else {})
    values |= {"receipt_id": receipt_id} if receipt_id else {}
    moved = tx.execute(update(_TABLE).where(mine, _TABLE.c.state.in_(before)).values(values))
    if moved.rowcount != 1:
        state = tx.execute(select(_TABLE.c.state).where(mine)).scalar()
        raise NodeError(f"authorisation {reservation.nonce} is {state}, it cannot become {after}")
