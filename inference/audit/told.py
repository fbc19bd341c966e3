"""What a log tells of the chain, held against the chain: anchors (check 3), settlements (check 5).

A node may leave out what it sent; what it tells of must have happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from inference.audit.anchor import AnchorEvent
from inference.audit.bodies import AnchorBody, SettlementBody
from inference.audit.chain_view import ChainView
from inference.errors import AuditError
from registry.errors import ChainMismatchError, TransactionFailedError

_ANCHORS: Final = 3
_MONEY: Final = 5
# Questions to the chain under way at once: an endpoint answers some side by side.
_THREADS: Final = 4
# What books a sum without moving any: channels are compared one by one.
_CLAIM: Final = "claim"


@dataclass
class Told:
    """Entries that tell of the chain, by their place in the log."""

    anchors: dict[int, AnchorBody] = field(default_factory=dict)
    settlements: dict[int, SettlementBody] = field(default_factory=dict)

    def check_anchors(self, anchored: Sequence[AnchorEvent]) -> None:
        """Refuse, with `AuditError` (3), an anchor that is not among those on chain."""
        known = {(event.size, event.root, event.tx_hash) for event in anchored}
        for seq, told in self.anchors.items():
            if (told.size, told.root, told.transaction) not in known:
                text = f"entry {seq} tells of an anchored head of {told.size} that never was"
                evidence = {"entry": seq, "anchor": told.to_json()}
                raise AuditError(_ANCHORS, text, evidence=evidence)

    def check_settlements(self, chain: ChainView) -> None:
        """Refuse, with `AuditError` (5), a movement of money that the chain does not have."""
        moved = {seq: told for seq, told in self.settlements.items() if told.action != _CLAIM}
        with ThreadPoolExecutor(_THREADS) as pool:
            found = pool.map(lambda told: _has_moved(chain, told), moved.values())
            for (seq, told), has_moved in zip(moved.items(), found, strict=True):
                if not has_moved:
                    text = f"entry {seq} tells of a {told.action} of {told.amount} that never was"
                    evidence = {"entry": seq, "settlement": told.to_json()}
                    raise AuditError(_MONEY, text, evidence=evidence)


def _has_moved(chain: ChainView, told: SettlementBody) -> bool:
    try:
        transfers = chain.transfers(told.transaction, told.token)
    except (ChainMismatchError, TransactionFailedError):
        return False
    # One that moved nothing tells of nothing.
    return told.amount == 0 or told.amount in [move.amount for move in transfers]
