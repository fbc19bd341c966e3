"""What a mined transaction of the node becomes in its log: by its events, once.

The contracts say what happened, so a transaction whose sender was stopped before its receipt came
is told like any other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from inference.audit.anchor import AnchorContract
from inference.audit.bodies import AnchorBody, Claim, IncidentBody, SettlementBody, entry_of
from inference.audit.entry import Entry
from inference.audit.log import AuditLog
from inference.audit.node_registry import NodeRegistry
from inference.payments.channels_contract import ChannelsContract
from inference.sent_book import SentBook
from registry.chain.block import TxReceipt

# The functions whose transactions the log tells of, and as what. A deposit or an `exact` transfer
# is told by the receipt of its call.
ACTIONS: Final = {
    "claim": "claim",
    "claimWithSignature": "claim",
    "settle": "settle",
    "multicall": "refund",
    "anchor": "anchor",
    "answer": "answer",
}


@dataclass(frozen=True)
class Notes:
    """Tells the log; `token` is the address of what is moved."""

    log: AuditLog
    book: SentBook
    channels: ChannelsContract
    anchors: AnchorContract
    bonds: NodeRegistry | None
    token: str

    def note(self, tx: Connection, doing: str, receipt: TxReceipt) -> tuple[Entry, ...]:
        """Note what `doing`, one of `ACTIONS`, did; return the entries, none if it was noted."""
        if not self.book.take(tx, receipt.hash):
            return ()
        noted: list[Entry] = []
        for body in self._bodies(ACTIONS[doing], receipt):
            if isinstance(body, AnchorBody):
                self.log.mark_anchored(tx, body.size, receipt.text)
            noted.append(entry_of(self.log.size(tx), body))
            self.log.append(tx, noted[-1])
        return tuple(noted)

    def _bodies(
        self, action: str, receipt: TxReceipt
    ) -> Iterator[SettlementBody | AnchorBody | IncidentBody]:
        if action == "anchor":
            for head in self.anchors.anchored_in(receipt):
                yield AnchorBody(
                    head.size, head.root, receipt.hash, receipt.block, receipt.gas_used
                )
        if action == "answer" and self.bonds is not None:
            for answered in self.bonds.answered_in(receipt):
                text = f"shown in {receipt.text} that the log only grew"
                now = int(time.time())
                yield IncidentBody.of("challenge answered", f"0x{answered.hex()}", text, now)
        rows = tuple(
            Claim(bytes.fromhex(row.channel_id[2:]), row.total)
            for row in self.channels.claimed(receipt)
        )
        if action == "claim" or rows:
            yield self._body("claim", receipt, 0, rows)
        if action == "settle":
            yield self._body("settle", receipt, self.channels.settled(receipt), ())
        if action == "refund":
            yield self._body("refund", receipt, self.channels.refunded(receipt), ())

    def _body(
        self, action: str, receipt: TxReceipt, amount: int, claims: tuple[Claim, ...]
    ) -> SettlementBody:
        return SettlementBody(
            action=action,
            token=self.token,
            amount=amount,
            claims=claims,
            transaction=receipt.hash,
            block=receipt.block,
            gas_used=receipt.gas_used,
        )
