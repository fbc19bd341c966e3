"""Check 5, its second half: the log's sums against the node's ledger and the chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inference.audit.accounts import Recall, about
from inference.audit.chain_view import ChainView
from inference.audit.document import ZERO_DIGEST
from inference.audit.reader import LedgerState, LogReader
from inference.audit.report import ChannelMoney
from inference.audit.tally import Tally
from inference.errors import AuditError
from inference.receipt_format import PaymentFacts
from inference.receipts import SignedReceipt
from registry.errors import ChainMismatchError, TransactionFailedError

CHECK: Final = 5


def reconcile_channels(
    tally: Tally, advance: Callable[[int], None], chain: ChainView, log: LogReader
) -> tuple[ChannelMoney, ...]:
    """Compare every channel; return what each owed and what of it was claimed.

    The node works on while it is audited. So the chain is asked first, then the ledger, and then
    `advance` takes the log up to where the ledger stood: each answer is at least as new as the one
    before. Raises `AuditError` (5) with what disagrees.
    """
    accounts = tally.accounts
    compared = []
    for channel in list(accounts.channels):
        onchain = chain.channel(channel)
        ledger = log.ledger(channel)
        read = tally.frontier.size
        if ledger.size < read:
            text = f"the ledger was shown as of entry {ledger.size}, before the {read} audited"
            raise AuditError(CHECK, text, evidence={"size": ledger.size, "audited": read})
        advance(ledger.size)
        owed = accounts.channels[channel]
        if fault := _fault(ledger, owed, onchain.total_claimed):
            evidence: dict[str, object] = {
                "ledger": ledger.to_json(),
                "totalClaimed": str(onchain.total_claimed),
                **accounts.evidence(channel),
            }
            raise AuditError(CHECK, f"channel 0x{channel.hex()}: {fault}", evidence=evidence)
        compared.append(ChannelMoney(channel, owed, onchain.total_claimed))
    return tuple(compared)


def _fault(ledger: LedgerState, owed: int, claimed: int) -> str:
    if ledger.cumulative != owed:
        return f"the ledger says {ledger.cumulative}, its receipts add up to {owed}"
    if owed > ledger.signed_max:
        return f"{owed} were charged, the payer signed {ledger.signed_max}"
    if claimed > owed:
        return f"{claimed} were claimed on chain, {owed} are owed"
    return ""


def check_exact(signed: SignedReceipt, seq: int, recall: Recall, chain: ChainView) -> None:
    """Refuse, with `AuditError` (5), a charge whose authorisation moved nothing on chain."""
    payment = signed.receipt.payment
    try:
        used = chain.authorization_used(payment.asset, payment.payer, payment.nonce)
        moved = _moved(payment, chain)
    except (ChainMismatchError, TransactionFailedError) as error:
        # The receipt names what was asked: a token that is none, a transaction that failed.
        raise about(recall, CHECK, error.message, seq) from error
    if not used:
        raise about(recall, CHECK, "its authorisation was never spent on chain", seq)
    if not moved:
        raise about(recall, CHECK, f"its transaction did not move {payment.charged}", seq)


def _moved(payment: PaymentFacts, chain: ChainView) -> bool:
    """Say whether the transaction moved what was charged; one that is not named is not asked."""
    if payment.transaction == ZERO_DIGEST:
        return True
    wanted = (payment.payer, payment.pay_to, payment.charged)
    transfers = chain.transfers(payment.transaction, payment.asset)
    return wanted in [(t.sender, t.receiver, t.amount) for t in transfers]
