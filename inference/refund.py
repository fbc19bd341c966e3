"""A payer takes its money back: what is owed is claimed, the rest refunded, in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from inference.audit.entry import Entry
from inference.errors import NodeError, UnavailableError
from inference.payments.cashier import Cashier
from inference.payments.channel import RefundPayment, parse_batch_payload, refuse
from inference.payments.ledger import RefundPlan
from inference.payments.offers import Offers
from inference.payments.verification import verify_payment
from inference.payments.x402 import PaymentPayload, settle_response
from inference.proof import Inclusion, Proof
from inference.settlement import Settlement
from registry.chain.block import TxReceipt
from registry.errors import ChainError, TransactionFailedError, TransactionUnknownError


async def refund(
    payment: PaymentPayload, offers: Offers, cashier: Cashier, settlement: Settlement
) -> str:
    """Refund a channel on its payer's signed request; return the PAYMENT-RESPONSE header.

    Raises `PaymentRefusedError` with the x402 code, `UnavailableError` without the chain.
    """
    offers.match(payment)
    now = int(time.time())
    verified = verify_payment(parse_batch_payload(payment.payload), cashier.terms, now=now)
    if not isinstance(verified.payment, RefundPayment):
        raise refuse("payload_type", "a GET on this address refunds; payments are POSTed")
    cashier.admit(verified.payment.config.payer_authorizer)
    if cashier.database.read(lambda tx: cashier.ledger.account(tx, verified.channel_id)) is None:
        raise refuse("missing_channel", f"this node knows no channel {verified.channel_id}")
    state = await cashier.mover.channel_state(verified.channel_id, now=now)
    plan = await cashier.database.write(
        lambda tx: cashier.ledger.reserve_refund(tx, verified, state=state, now=now)
    )
    receipt = await _send(plan, cashier, settlement)
    amount = settlement.channels.refunded(receipt)

    # At once: whatever fails from here on, the log tells of the transaction.
    noted = await cashier.database.write(lambda tx: settlement.note(tx, "multicall", receipt))
    return settle_response(
        success=True,
        network=cashier.network,
        payer=plan.reservation.payer,
        transaction=receipt.text,
        amount=amount,
        extra=await _finish(plan, cashier, receipt, now),
        extensions=await asyncio.to_thread(_receipt, noted, settlement),
    )


def _receipt(noted: Sequence[Entry], settlement: Settlement) -> dict[str, object]:
    """Return the payer's receipt of its refund: the note of it, proven to be in the signed log.

    Nothing where another process noted the transaction first, or the database is away: the money
    has moved all the same, and the log tells of it.
    """
    if not noted:
        return {}
    entry, log = noted[-1], settlement.log
    try:
        head = settlement.checkpoint()
        size = head.checkpoint.size
        path = settlement.database.read(lambda tx: log.inclusion_proof(tx, entry.seq, size))
    except NodeError:
        return {}
    proof = Proof(
        chain=settlement.chain.chain_id,
        anchor=settlement.anchors.address,
        node=settlement.signer.address,
        entry=entry,
        inclusion=Inclusion(size, path),
        checkpoint=head.note,
    )
    return {"weightproof": {"proof": proof.to_json()}}


async def _finish(
    plan: RefundPlan, cashier: Cashier, receipt: TxReceipt, now: int
) -> dict[str, object]:
    """End the refund with the chain's view after it; return the answer's `extra`.

    Without that view the channel takes no calls until `Settlement.resolve` has read it. Clients
    book a refund by its amount and do not need the channel's state.
    """
    reservation = plan.reservation
    try:
        after = await cashier.mover.channel_state(reservation.channel_id, now=now)
    except UnavailableError:
        return {}
    if after.block < receipt.block:  # an endpoint that lags behind the one we sent through
        return {}
    done = await cashier.database.write(
        lambda tx: cashier.ledger.finish_refund(tx, reservation, after)
    )
    return {"channelState": dict(done.state)}


async def _send(plan: RefundPlan, cashier: Cashier, settlement: Settlement) -> TxReceipt:
    signer = settlement.signer
    try:
        return await asyncio.to_thread(settlement.channels.refund, signer, signer, plan)
    except TransactionUnknownError as error:
        # The reservation stays: the channel takes no calls until the chain says what happened.
        raise UnavailableError("the refund was sent and its outcome is not known yet") from error
    except ChainError as error:
        await cashier.database.write(lambda tx: cashier.ledger.release(tx, plan.reservation))
        if isinstance(error, TransactionFailedError):
            raise refuse("transaction_reverted", error.reason or error.message) from error
        raise UnavailableError("the chain does not answer; nothing was refunded") from error
