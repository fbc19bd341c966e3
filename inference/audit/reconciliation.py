"""Check 5, its second half: the log's sums against the node's ledger and the chain."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from inference.audit.accounts import Accounts, Recall, about
from inference.audit.chain_view import ChainView, ChannelState
from inference.audit.document import ZERO_DIGEST
from inference.audit.reader import LedgerState, LogReader
from inference.audit.report import ChannelMoney
from inference.audit.tally import Tally
from inference.errors import AuditError
from inference.receipt_format import PaymentFacts
from inference.receipts import SignedReceipt
from registry.errors import ChainMismatchError, TransactionFailedError

CHECK: Final = 5
# Channels asked for side by side, and how many of them before their answers are compared.
_THREADS: Final = 4
_AT_ONCE: Final = 64


def reconcile_channels(
    tally: Tally, advance: Callable[[int], None], chain: ChainView, log: LogReader
) -> tuple[ChannelMoney, ...]:
    """Compare every channel; return what each owed and what of it was claimed.

    The node works on while it is audited. So the chain is asked first, then the ledger, and then
    `advance` takes the log up to where the ledger stood: each answer is at least as new as the one
    before. Raises `AuditError` (5) with what disagrees.
    """
    compared: list[ChannelMoney] = []
    waiting = list(tally.accounts.channels)
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(waiting), _AT_ONCE):
            read = tally.frontier.size
            asked = list(
                pool.map(partial(_ask, chain, log, read), waiting[start : start + _AT_ONCE])
            )
            # Who answered earlier knows less of the log: it is taken up to each in turn.
            for one in sorted(asked, key=lambda answer: answer.ledger.size):
                advance(one.ledger.size)
                compared.append(_compare(tally.accounts, one))
    return tuple(compared)


@dataclass(frozen=True)
class _Answer:
    channel: bytes
    onchain: ChannelState
    ledger: LedgerState


def _ask(chain: ChainView, log: LogReader, read: int, channel: bytes) -> _Answer:
    """Ask the chain first, then the node, which had `read` entries before it was asked."""
    answer = _Answer(channel, chain.channel(channel), log.ledger(channel))
    size = answer.ledger.size
    if size < read:
        text = f"the ledger was shown as of entry {size}, before the {read} audited"
        raise AuditError(CHECK, text, evidence={"size": size, "audited": read})
    return answer


def _compare(accounts: Accounts, answer: _Answer) -> ChannelMoney:
    channel, claimed, ledger = answer.channel, answer.onchain.total_claimed, answer.ledger
    owed = accounts.channels[channel]
    if fault := _fault(ledger, owed, claimed):
        evidence: dict[str, object] = {
            "ledger": ledger.to_json(),
            "totalClaimed": str(claimed),
            **accounts.evidence(channel),
        }
        raise AuditError(CHECK, f"channel 0x{channel.hex()}: {fault}", evidence=evidence)
    return ChannelMoney(channel, owed, claimed)


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
