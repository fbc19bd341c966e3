"""Check 5, its second half: the log's sums against the node's ledger and the chain."""

from __future__ import annotations

from typing import Final

from inference.audit.accounts import Accounts
from inference.audit.bodies import SettlementBody
from inference.audit.chain_view import AuditTarget, ChainView
from inference.audit.document import ZERO_DIGEST
from inference.audit.entry import RECEIPT, SETTLEMENT
from inference.audit.log_copy import LogCopy
from inference.audit.plan_accounts import PlanAccounts
from inference.audit.reader import LogReader
from inference.errors import AuditError
from inference.receipt_format import PaymentFacts
from inference.receipts import SignedReceipt
from registry.errors import ChainMismatchError, TransactionFailedError

CHECK: Final = 5


class Books:
    """The accounts, kept from the auditor's copy of the log, entry by entry."""

    def __init__(self, target: AuditTarget, log: LogReader, copy: LogCopy) -> None:
        self.accounts: Final = Accounts(target.network, PlanAccounts(log.price_offer))
        self._target: Final = target
        self._log: Final = log
        self._copy: Final = copy
        self._taken = 0

    def take(self, end: int) -> None:
        """Take entries up to `end` into the accounts."""
        for entry in self._copy.entries[self._taken : end]:
            if entry.kind == RECEIPT:
                self.accounts.add(self._copy.receipts[entry.seq])
            elif entry.kind == SETTLEMENT:
                self.accounts.check_claims(entry.seq, SettlementBody.from_json(entry.body))
        self._taken = end

    def advance(self, size: int) -> None:
        """Read what was logged while the audit ran, up to `size`, and take it."""
        start = len(self._copy.entries)
        if size < start:
            text = f"the ledger was shown as of entry {size}, before the {start} audited"
            raise AuditError(CHECK, text, evidence={"size": size, "audited": start})
        self._copy.extend(self._log, size, lambda done, total: None)
        self._copy.open_receipts(start)
        for seq in [seq for seq in self._copy.receipts if seq >= start]:
            self._copy.check_receipt(seq, self._target)
        self.take(size)


def reconcile_channels(books: Books, chain: ChainView, log: LogReader) -> int:
    """Compare every channel; return the total still unclaimed, in atomic units.

    The node works on while it is audited. So the chain is asked first, then the ledger, and then
    the log is taken up to where the ledger stood: each answer is at least as new as the one
    before. Raises `AuditError` (5) with what disagrees.
    """
    accounts = books.accounts
    unclaimed = 0
    for channel in list(accounts.channels):
        onchain = chain.channel(channel)
        ledger = log.ledger(channel)
        books.advance(ledger.size)
        owed = accounts.channels[channel]
        evidence: dict[str, object] = {
            "ledger": ledger.to_json(),
            "totalClaimed": str(onchain.total_claimed),
            **accounts.evidence(channel),
        }
        name = f"channel 0x{channel.hex()}"
        if ledger.cumulative != owed:
            text = f"{name}: the ledger says {ledger.cumulative}, its receipts add up to {owed}"
            raise AuditError(CHECK, text, evidence=evidence)
        if owed > ledger.signed_max:
            text = f"{name}: {owed} were charged, the payer signed {ledger.signed_max}"
            raise AuditError(CHECK, text, evidence=evidence)
        if onchain.total_claimed > owed:
            text = f"{name}: {onchain.total_claimed} were claimed on chain, {owed} are owed"
            raise AuditError(CHECK, text, evidence=evidence)
        unclaimed += owed - onchain.total_claimed
    return unclaimed


def check_exact(signed: SignedReceipt, chain: ChainView) -> None:
    """Refuse, with `AuditError` (5), a charge whose authorisation moved nothing on chain."""
    payment = signed.receipt.payment
    try:
        used = chain.authorization_used(payment.asset, payment.payer, payment.nonce)
        moved = _moved(payment, chain)
    except (ChainMismatchError, TransactionFailedError) as error:
        # The receipt names what was asked: a token that is none, a transaction that failed.
        raise _unpaid(signed, error.message) from error
    if not used:
        raise _unpaid(signed, "its authorisation was never spent on chain")
    if not moved:
        raise _unpaid(signed, f"its transaction did not move {payment.charged}")


def _moved(payment: PaymentFacts, chain: ChainView) -> bool:
    """Say whether the transaction moved what was charged; one that is not named is not asked."""
    if payment.transaction == ZERO_DIGEST:
        return True
    wanted = (payment.payer, payment.pay_to, payment.charged)
    transfers = chain.transfers(payment.transaction, payment.asset)
    return wanted in [(t.sender, t.receiver, t.amount) for t in transfers]


def _unpaid(signed: SignedReceipt, why: str) -> AuditError:
    text = f"receipt {signed.receipt.id}: {why}"
    return AuditError(CHECK, text, evidence={"receipt": signed.public()})
