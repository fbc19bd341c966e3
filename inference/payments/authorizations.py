"""EIP-3009 authorisations spent at this node: each (asset, payer, nonce) is used once.

::

    reserved ──► settling ──► settled
       │            ├───────► unknown ──► settled | released
       ▼            ▼
    released ◄──────┘          a released one may be presented again

`settling` is stored before the transaction is sent, so that no crash can forget that money may
have moved; what became of it is asked of the token (`authorizationState`), by anybody, any time
later. An unknown outcome stays unknown until the chain says: the payer is never asked to pay again.
While it is `settling`, only the call that sends it may move it; a failed call or a restart makes
it unknown. An exact payment becomes settled in the transaction that stores its receipt.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, insert, select, update

from inference import instances, schema
from inference.errors import NodeError, PaymentRefusedError
from inference.payments.channel import SCHEME as BATCH
from inference.payments.channel import DepositPayment, refuse
from inference.payments.eip3009 import Authorization, Token
from inference.payments.exact import SCHEME as EXACT
from inference.payments.exact import VerifiedAuthorization
from inference.payments.reservation import Purpose, Reservation, make_reservation
from inference.payments.verification import Terms, VerifiedPayment

_TABLE: Final = schema.authorizations
_MAY_HAVE_MOVED: Final = ("settling", "unknown")


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

    def reserve(self, tx: Connection, verified: VerifiedAuthorization, *, now: int) -> Reservation:
        """Take an exact payment's authorisation for one call; `now` in unix seconds.

        However many copies arrive, one gets it. Raises `PaymentRefusedError` for the others.
        """
        taken = _take(tx, verified.authorization, verified.token, "exact", "", now)
        if taken is None:
            raise PaymentRefusedError(
                "invalid_exact_evm_nonce_already_used", "this authorisation was used before"
            )
        return taken

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

    def settled(self, tx: Connection, reservation: Reservation, tx_hash: bytes | None) -> None:
        """Note that the money moved."""
        _move(tx, reservation, ("settling", "unknown"), "settled", tx_hash)

    def unknown(self, tx: Connection, reservation: Reservation, tx_hash: bytes | None) -> None:
        """Note that nobody knows whether it moved."""
        _move(tx, reservation, _MAY_HAVE_MOVED, "unknown", tx_hash)

    def release(self, tx: Connection, reservation: Reservation) -> None:
        """Give the authorisation back: the money did not move, and no transaction is under way."""
        _move(tx, reservation, ("reserved", *_MAY_HAVE_MOVED), "released", None)

    def give_up(self, tx: Connection, reservation: Reservation) -> None:
        """Give an authorisation back if nothing was sent for it yet; else leave it as it is."""
        unsent = (_TABLE.c.reservation_id == reservation.id, _TABLE.c.state == "reserved")
        tx.execute(update(_TABLE).where(*unsent).values(state="released"))

    def abandon(self, tx: Connection, reservation: Reservation) -> bool:
        """End a failed call: give back what was not sent, leave to `unsettled` what was.

        Says whether the money may have moved.
        """
        mine = _TABLE.c.reservation_id == reservation.id
        self.give_up(tx, reservation)
        tx.execute(update(_TABLE).where(mine, _TABLE.c.state == "settling").values(state="unknown"))
        return tx.execute(select(_TABLE.c.state).where(mine)).scalar() == "unknown"

    def unsettled(self, tx: Connection) -> list[Unsettled]:
        """Return what the chain must be asked about; not what a call is settling just now."""
        query = select(_TABLE).where(_TABLE.c.state == "unknown")
        return [
            Unsettled(
                make_reservation(
                    id=row.reservation_id,
                    scheme=EXACT if row.purpose == "exact" else BATCH,
                    purpose=row.purpose,
                    payer=row.payer,
                    amount=row.amount,
                    channel_id=row.channel_id or "",
                    nonce=row.nonce,
                ),
                asset=row.asset,
                valid_before=row.valid_before,
                tx_hash=None if row.tx_hash is None else bytes.fromhex(row.tx_hash[2:]),
            )
            for row in tx.execute(query.order_by(_TABLE.c.created_at))
        ]

    def recover(self, tx: Connection, instance: str) -> None:
        """Release what an instance whose process is gone reserved and never sent.

        What it may have sent is `unsettled` from here on.
        """
        whose = _TABLE.c.instance == instance
        for before, after in (("reserved", "released"), ("settling", "unknown")):
            tx.execute(update(_TABLE).where(whose, _TABLE.c.state == before).values(state=after))


def _take(
    tx: Connection,
    authorization: Authorization,
    token: Token,
    purpose: Purpose,
    channel_id: str,
    now: int,
) -> Reservation | None:
    """Take an unused authorisation; None when it was settled."""
    nonce = f"0x{authorization.nonce.hex()}"
    key = {"asset": token.address, "payer": authorization.payer, "nonce": nonce}
    reservation = make_reservation(
        id=secrets.token_hex(16),
        scheme=EXACT if purpose == "exact" else BATCH,
        purpose=purpose,
        payer=authorization.payer,
        amount=authorization.value,
        channel_id=channel_id,
        nonce=nonce,
    )
    values = {
        "purpose": purpose,
        "reservation_id": reservation.id,
        "channel_id": channel_id or None,
        "amount": authorization.value,
        "valid_before": authorization.valid_before,
        "state": "reserved",
        "tx_hash": None,
        "created_at": now,
        "instance": instances.of(tx),
    }
    query = select(_TABLE.c.state).filter_by(**key).with_for_update()
    state = tx.execute(query).scalar()
    if state is None:
        tx.execute(insert(_TABLE).values(key | values))
    elif state == "released":
        tx.execute(update(_TABLE).filter_by(**key).values(values))
    elif state == "settled":
        return None
    elif state in _MAY_HAVE_MOVED:
        raise PaymentRefusedError(
            "settlement_pending", "this payment is being settled; its outcome is not known yet"
        )
    elif purpose == "deposit":
        raise refuse("channel_busy", "this deposit is under way")
    else:
        raise PaymentRefusedError(
            "invalid_exact_evm_nonce_already_used", "this authorisation is in use"
        )
    return reservation


def _move(
    tx: Connection,
    reservation: Reservation,
    before: tuple[str, ...],
    after: str,
    tx_hash: bytes | None,
) -> None:
    mine = _TABLE.c.reservation_id == reservation.id
    values = {"state": after} | ({"tx_hash": f"0x{tx_hash.hex()}"} if tx_hash else {})
    moved = tx.execute(update(_TABLE).where(mine, _TABLE.c.state.in_(before)).values(values))
    if moved.rowcount != 1:
        state = tx.execute(select(_TABLE.c.state).where(mine)).scalar()
        raise NodeError(f"authorisation {reservation.nonce} is {state}, it cannot become {after}")
