"""The mover: money that moves on chain for one call, with a durable state around each step.

A deposit moves before the work, an `exact` transfer after it. Before a transaction is sent its
authorisation is `settling`; then it is settled, released because the chain refused it, or unknown.
What is unknown is asked of the chain later and never asked of the payer again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from inference.database import Database, DatabaseError
from inference.errors import PaymentRefusedError, UnavailableError
from inference.payments.account import OnchainChannel
from inference.payments.authorizations import AuthorizationBook
from inference.payments.channel import DepositPayment, refuse
from inference.payments.channels_contract import ChannelsContract
from inference.payments.eip3009 import Authorization
from inference.payments.exact import VerifiedAuthorization
from inference.payments.reservation import Reservation
from inference.payments.secured import Moved
from inference.payments.token_contract import NONCE_USED, TokenContract
from inference.payments.verification import Terms, VerifiedPayment
from inference.payments.wallet import Approval, WalletSignatureError
from inference.payments.wallet_contract import Wallets
from registry.chain.block import TxReceipt
from registry.errors import (
    ChainError,
    TransactionFailedError,
    TransactionRefusedError,
    TransactionUnknownError,
    WeightproofError,
)
from registry.signing.signer import Signer

Taken = TypeVar("Taken")


class SettlementPendingError(UnavailableError):
    """A payment was sent and nobody knows its outcome yet; it is never asked for again."""

    code = "settlement_pending"
    afresh = False

    def __init__(self) -> None:
        super().__init__(
            "the payment was sent and its outcome is not known yet",
            hint="do not pay again: send the same payment again in a while",
        )


def paid_to(reservation: Reservation, terms: Terms) -> tuple[str, int] | None:
    """Return whom and how much an `exact` payment must have paid; None for a deposit."""
    exact = reservation.purpose == "exact"
    return (terms.receiver, reservation.amount) if exact else None


@dataclass(frozen=True)
class Mover:
    """Sends with `signer`, which pays the gas; chain work runs in threads.

    No payment to this node is older than `from_block`.
    """

    database: Database
    authorizations: AuthorizationBook
    channels: ChannelsContract
    token: TokenContract
    terms: Terms
    signer: Signer
    wallets: Wallets
    from_block: int = 0

    async def approval(self, question: WalletSignatureError) -> Approval:
        """Ask a payer that is a contract about its signature. Raises the question when refused."""
        with _reading():
            return await asyncio.to_thread(self.wallets.approve, question)

    async def channel_state(self, channel_id: str, *, now: int) -> OnchainChannel:
        """Read a channel; `now` in unix seconds. Raises `UnavailableError`."""
        with _reading():
            return await asyncio.to_thread(self.channels.state, channel_id, now=now)

    async def deposit(self, payment: VerifiedPayment, *, now: int) -> Moved | None:
        """Fetch an authorised deposit into its channel; None when that was done before.

        Raises `PaymentRefusedError` when the chain refuses it.
        """
        deposit = payment.payment
        if not isinstance(deposit, DepositPayment):
            return None

        def reserve(tx: Connection) -> Reservation | None:
            return self.authorizations.reserve_deposit(tx, payment, self.terms, now=now)

        reservation = await self.taken(reserve, deposit.authorization(self.terms.collector))
        if reservation is None:
            return None

        def send() -> TxReceipt:
            try:
                return self.channels.deposit(
                    self.signer,
                    deposit,
                    collector=self.terms.collector,
                    approval=payment.approval,
                )
            except TransactionRefusedError:
                raise  # our own gas money or nonce is at fault, not the payer's deposit
            except TransactionFailedError as error:
                signed = deposit.authorization(self.terms.collector)
                if self.token.is_used(signed.payer, signed.nonce):
                    # Anybody may submit it, and somebody has: it is asked of the chain again.
                    raise SettlementPendingError() from error
                why = error.reason or error.message
                raise refuse("deposit_transaction_failed", f"the chain refused: {why}") from error

        receipt = await self._settle(reservation, send)
        await self.database.insist(
            lambda tx: self.authorizations.settled(tx, reservation, receipt.hash)
        )
        return Moved(receipt.hash, deposit.amount)

    async def taken(
        self, take: Callable[[Connection], Taken], authorization: Authorization
    ) -> Taken:
        """Take an authorisation; where its outcome is unknown, ask the chain before refusing it.

        Raises `SettlementPendingError` while the chain does not say either.
        """
        try:
            return await self.database.write(take)
        except PaymentRefusedError as refusal:
            if refusal.code != SettlementPendingError.code:
                raise
            if not await self._recheck(authorization):
                raise SettlementPendingError() from refusal
        return await self.database.write(take)

    async def _recheck(self, authorization: Authorization) -> bool:
        """Ask the chain what became of a payment; say whether that is known now."""
        book, token = self.authorizations, self.terms.token
        found = self.database.read(lambda tx: book.unsettled_one(tx, token, authorization))
        if found is None:  # the call that sends it is still at it
            return False
        try:
            used_by = await asyncio.to_thread(
                self.token.outcome,
                authorization.payer,
                authorization.nonce,
                valid_before=found.valid_before,
                from_block=self.from_block,
                pays=paid_to(found.reservation, self.terms),
            )
        except ChainError:
            return False
        if used_by is not None:
            await self.database.write(lambda tx: book.conclude(tx, found, used_by))
        return used_by is not None

    async def check(self, verified: VerifiedAuthorization) -> int:
        """Refuse before any work what the token would refuse after it.

        Returns a block at which the authorisation was still unused.
        """
        with _reading():
            return await asyncio.to_thread(
                self.token.check, verified.authorization, verified.approval
            )

    async def transfer(
        self, reservation: Reservation, verified: VerifiedAuthorization, *, since: int
    ) -> Moved:
        """Move the money of an `exact` payment, unless somebody else sent its transfer already.

        `since` is a block at which it was unused. The authorisation stays `settling`: who stores
        the receipt settles it in the same transaction. Raises `PaymentRefusedError` when it cannot
        be moved, `SettlementPendingError` when nobody knows whether it was.
        """
        authorization = verified.authorization

        def send() -> TxReceipt:
            try:
                return self.token.transfer(self.signer, authorization, verified.approval)
            except PaymentRefusedError as refusal:
                if refusal.code != NONCE_USED:
                    raise
            # Anybody may send an authorised transfer: the payer, or who watched ours being sent.
            try:
                found = self.token.paid_by(authorization, from_block=since)
            except ChainError as error:
                raise SettlementPendingError() from error
            if found is None:
                raise SettlementPendingError()
            return found

        receipt = await self._settle(reservation, send)
        return Moved(receipt.hash, authorization.value)

    async def _settle(
        self,
        reservation: Reservation,
        send: Callable[[], TxReceipt],
    ) -> TxReceipt:
        # What became of money that may have moved is written down, however long it takes.
        book, write = self.authorizations, self.database.insist
        try:
            await self.database.write(lambda tx: book.settling(tx, reservation))
        except DatabaseError:
            if reservation.purpose == "deposit":  # an `exact` one is ended with its sale
                await write(lambda tx: book.release(tx, reservation))
            raise
        try:
            receipt = await asyncio.to_thread(send)
        except TransactionUnknownError as error:
            tx_hash = error.tx_hash
            await write(lambda tx: book.unknown(tx, reservation, tx_hash))
            raise SettlementPendingError() from error
        except SettlementPendingError:
            await write(lambda tx: book.unknown(tx, reservation, None))
            raise
        except PaymentRefusedError:
            await write(lambda tx: book.release(tx, reservation))
            raise
        except ChainError as error:
            await write(lambda tx: book.release(tx, reservation))
            raise UnavailableError("the chain does not answer; nothing was charged") from error
        except WeightproofError:  # a lock or a disk, before or after it was sent: the chain knows
            await write(lambda tx: book.unknown(tx, reservation, None))
            raise
        return receipt


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except ChainError as error:
        raise UnavailableError("the chain does not answer; nothing was charged") from error
