"""When receipts say they were made, held against the log's order and the chain's clock.

A receipt that is dated back could name a model before its revocation. What bounds its time: the
receipts before it; the anchored checkpoints before it and after it; and blocks that the node's own
entries before it name. What was refused or failed moved no money and may be logged late.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.audit.accounts import Recall, about
from inference.audit.examination import Call
from inference.audit.model_standing import SOLD, Terms

CHECK: Final = 4


@dataclass(frozen=True)
class AnchorTime:
    """A checkpoint of `size` entries stood on chain at `at`, in unix seconds."""

    size: int
    at: int


@dataclass
class Clock:
    """Takes receipts in the log's order. `latest` is the latest time so far, and whose it is."""

    terms: Terms
    recall: Recall
    anchors: Sequence[AnchorTime] = ()
    latest: tuple[int, int] = (0, 0)
    _passed: int = field(default=0, init=False)

    def add(self, seq: int, call: Call) -> None:
        """Refuse, with `AuditError` (4), a receipt that was not made when it says."""
        if call.status not in SOLD:
            return
        at, terms = call.served_at, self.terms
        while self._passed < len(self.anchors) and self.anchors[self._passed].size <= seq:
            self._passed += 1
        if self._passed and at < self.anchors[self._passed - 1].at - terms.anchor_delay_s:
            before = self.anchors[self._passed - 1]
            text = f"{before.at - at} s before {before.size} entries, not this one, were anchored"
            raise about(self.recall, CHECK, f"it says it was served {text}", seq)
        if self._passed < len(self.anchors) and at > self.anchors[self._passed].at + terms.skew_s:
            late = at - self.anchors[self._passed].at
            text = f"it says it was served {late} s after it was anchored on chain"
            raise about(self.recall, CHECK, text, seq)
        latest, whose = self.latest
        if at < latest - terms.order_s:
            text = f"it says it was served {latest - at} s before one that stands before it"
            raise about(self.recall, CHECK, text, seq, whose)
        if at > latest:
            self.latest = (at, seq)
