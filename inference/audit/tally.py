"""What an auditor adds up over a log, entry by entry: checks 3 to 6 in one pass.

Each check keeps its first finding and goes on only as far as it then can, so that one lie hides no
other: a receipt that cannot be read ends the sums, a false signature does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.audit.accounts import Accounts
from inference.audit.bodies import SettlementBody
from inference.audit.clock import Clock
from inference.audit.examination import Call, Finding, Row
from inference.audit.frontier import Frontier
from inference.audit.log import GENESIS
from inference.audit.log_copy import LogCopy
from inference.audit.model_standing import Standing
from inference.audit.reader import BadAnswerError
from inference.audit.told import Told
from inference.errors import AuditError

# Leaf hashes in one piece of evidence: a longer log is downloaded again by whoever doubts it.
MAX_EVIDENCE_LEAVES: Final = 10_000
_RECEIPTS: Final = 4
_CHARGES: Final = 5


@dataclass
class Tally:
    """The sums so far. `form`, `receipt` and `charge` are the first findings of checks 3 to 5.

    `unread` is the first receipt (4) that cannot be read; `ids` are 8 bytes of each receipt's id,
    hashed, and of its request's salted hash: salts are fresh, so no two calls have the same.
    `told` is what settlements and anchors among the entries say of the chain.
    """

    copy: LogCopy
    accounts: Accounts
    clock: Clock
    standing: Standing = field(default_factory=Standing)
    frontier: Frontier = field(default_factory=Frontier)
    last_leaf: bytes = GENESIS
    ids: set[int] = field(default_factory=set)
    calls: int = 0
    first_leaves: list[bytes] = field(default_factory=list)
    form: Finding | None = None
    unread: Finding | None = None
    receipt: Finding | None = None
    charge: Finding | None = None
    told: Told = field(default_factory=Told)

    def take(self, page: Sequence[bytes], rows: Sequence[Row]) -> None:
        """Take the next entries, and what was found of each."""
        self.copy.append(page)
        for row in rows:
            if self.form is not None:
                return
            self._take(self.frontier.size, row)

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found, in the checks' order."""
        found = (self.form, self.unread, self.receipt, self.charge)
        return tuple(finding for finding in found if finding is not None)

    def _take(self, seq: int, row: Row) -> None:
        if row.finding is not None and row.finding.check != _RECEIPTS:
            self.form = row.finding
            return
        if row.finding is not None:
            self.unread = self.unread or row.finding
        elif row.call is not None:
            self.copy.note_receipt(seq)
            self.calls += 1
            self.receipt = self.receipt or row.signature or self._misplaced(seq, row.call)
            self.charge = self.charge or row.charge or self._unsound(seq, row.call)
            self.standing.add(seq, row.call)
        elif row.anchor is not None:
            self.told.anchors[seq] = row.anchor
        elif row.settlement is not None:
            self.told.settlements[seq] = row.settlement
            self.charge = self.charge or self._unowed(seq, row.settlement)
        self.frontier.add(row.leaf)
        self.last_leaf = row.leaf
        if len(self.first_leaves) < MAX_EVIDENCE_LEAVES:
            self.first_leaves.append(row.leaf)

    def _misplaced(self, seq: int, call: Call) -> Finding | None:
        """Check what a receipt says of its place against the entries before it."""
        try:
            if call.prev != self.last_leaf:
                raise self._after_another(seq)
            if call.id in self.ids or call.request in self.ids:
                raise self._twin(seq, is_id=call.id in self.ids)
            self.ids |= {call.id, call.request}
            self.clock.add(seq, call)
        except AuditError as error:
            return Finding.of(error)
        return None

    def _unsound(self, seq: int, call: Call) -> Finding | None:
        try:
            self.accounts.add(seq, call, self.copy.bare(seq) if call.is_planned else None)
        except AuditError as error:
            return Finding.of(error)
        except BadAnswerError as answer:
            return Finding(_CHARGES, answer.message, answer.evidence)
        return None

    def _unowed(self, seq: int, settlement: SettlementBody) -> Finding | None:
        try:
            self.accounts.check_claims(seq, settlement)
        except AuditError as error:
            return Finding.of(error)
        return None

    def _after_another(self, seq: int) -> AuditError:
        signed = self.copy.recall(seq)
        evidence: dict[str, object] = {"seq": seq, "leafBefore": "0x" + self.last_leaf.hex()}
        if signed is not None:
            evidence["receipt"] = signed.public()
        text = f"receipt {seq} was signed after another entry than stands before it"
        return AuditError(_RECEIPTS, text, evidence=evidence)

    def _twin(self, seq: int, *, is_id: bool) -> AuditError:
        """Find the receipt that had the id, or was about the call, before, among those read now."""
        signed = self.copy.recall(seq)
        if signed is None:
            return AuditError(_RECEIPTS, f"entry {seq} repeats a receipt", evidence={"seq": seq})
        receipt = signed.receipt
        text = f"receipt {receipt.id} is about a call that another one is about"
        if is_id:
            text = f"two receipts have the id {receipt.id}"
        evidence: dict[str, object] = {"receipt": signed.public()}
        for before in self.copy.receipts:
            held = self.copy.bare(before).receipt
            same = (held.id == receipt.id) if is_id else (held.request.hash == receipt.request.hash)
            if before < seq and same:
                other = self.copy.recall(before)
                evidence["before"] = other.public() if other else {"entry": before}
                break
        return AuditError(_RECEIPTS, text, evidence=evidence)
