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

from inference.database import Database
from inference.errors import PaymentRefusedError, UnavailableError
from inference.payments.account import OnchainChannel
from inference.payments.authorizations import AuthorizationBook
from inference.payments.channel import DepositPayment, refuse
from inference.payments.channels_contract import ChannelsContract
from inference.payments.exact import VerifiedAuthorization
from inference.payments.reservation import Reservation
from inference.payments.secured import Moved
from inference.payments.token_contract import TokenContract
from inference.payments.verification import Terms, VerifiedPayment
from registry.chain.block import TxReceipt
from registry.errors import ChainError, TransactionFailedError, TransactionUnknownError
from registry.signing.signer import Signer


@dataclass(frozen=True)
class Mover:
    """Sends with `signer`, which pays the gas; chain work runs in threads."""

    database: Database
    authorizations: AuthorizationBook
    channels: ChannelsContract
    token: TokenContract
    terms: Terms
    signer: Signer

    async def channel_state(self, channel_id: str, *, now: int) -> OnchainChannel:
        """Read a channel; `now` in unix seconds. Raises `UnavailableError`."""
        with _reading():
            return await asyncio.to_thread(self.channels.state, channel_id, now=now)

    async def deposit(self, payment: VerifiedPayment, *, now: int) -> Moved | None:
        """Fetch an authorised deposit into its channel; None when that was done before.

        Raises `PaymentRefusedError` when the chain refuses it.
        """
        reservation = await self.database.write(
            lambda tx: self.authorizations.reserve_deposit(tx, payment, self.terms, now=now)
        )
        deposit = payment.payment
        if reservation is None or not isinstance(deposit, DepositPayment):
            return None

        def send() -> TxReceipt:
            try:
                return self.channels.deposit(self.signer, deposit, collector=self.terms.collector)
            except TransactionFailedError as error:
                why = error.reason or error.message
                raise refuse("deposit_transaction_failed", f"the chain refused: {why}") from error

        receipt = await self._settle(reservation, send)
        return Moved(receipt.hash, deposit.amount)

    async def check(self, verified: VerifiedAuthorization) -> None:
        """Refuse before any work what the token would refuse after it."""
        with _reading():
            await asyncio.to_thread(self.token.check, verified.authorization)

    async def transfer(self, reservation: Reservation, verified: VerifiedAuthorization) -> Moved:
        """Move the money of an `exact` payment. Raises `PaymentRefusedError` when it cannot be."""
        authorization = verified.authorization
        receipt = await self._settle(
            reservation, lambda: self.token.transfer(self.signer, authorization)
        )
        return Moved(receipt.hash, authorization.value)

    async def _settle(
        self,
        reservation: Reservation,
        send: Callable[[], TxReceipt],
    ) -> TxReceipt:
        book, write = self.authorizations, self.database.write
        await write(lambda tx: book.settling(tx, reservation))
        try:
            receipt = await asyncio.to_thread(send)
        except TransactionUnknownError as error:
            tx_hash = error.tx_hash
            await write(lambda tx: book.unknown(tx, reservation, tx_hash))
            raise UnavailableError(
                "the payment was sent and its outcome is not known yet", hint="do not pay again"
            ) from error
        except PaymentRefusedError:
            await write(lambda tx: book.release(tx, reservation))
            raise
        except ChainError as error:
            await write(lambda tx: book.release(tx, reservation))
            raise UnavailableError("the chain does not answer; nothing was charged") from error
        await write(lambda tx: book.settled(tx, reservation, receipt.hash))
        return receipt


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except ChainError as error:
        raise UnavailableError("the chain does not answer; nothing was charged") from error
