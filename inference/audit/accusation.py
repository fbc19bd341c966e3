"""Evidence from what an auditor holds: heads, leaves and receipts become documents.

Whoever audits calls these with what it has; the strongest evidence that this allows comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.audit import merkle
from inference.audit.anchor import AnchorEvent
from inference.audit.checkpoint import SignedCheckpoint
from inference.audit.evidence import Drop, Evidence, Fork, Head, Inclusion, Rewrite, Silence, Twins
from inference.receipts import SignedReceipt


def head_of(signed: SignedCheckpoint) -> Head:
    """Return a signed checkpoint as evidence has it."""
    return Head(signed.checkpoint.size, signed.checkpoint.root, signed.signature)


def anchored_head(event: AnchorEvent) -> Head:
    """Return an anchored head as evidence has it: the event carries the node's signature."""
    return Head(event.size, event.root, event.signature)


@dataclass(frozen=True)
class Accused:
    """Whose log is looked at: a node's, anchored at `anchor` of `chain`, named `origin`."""

    chain: int
    anchor: str
    node: str
    origin: str

    def heads(
        self,
        earlier: Head,
        later: Head,
        *,
        earlier_leaves: Sequence[bytes] = (),
        later_leaves: Sequence[bytes] = (),
    ) -> Evidence | None:
        """Return evidence from two heads that do not agree; None where there is none.

        With the leaf hashes of both logs the place that was rewritten is shown; without them the
        node is to be asked for a proof. Heads may come in either order.
        """
        if later.size < earlier.size:
            earlier, later = later, earlier
            earlier_leaves, later_leaves = later_leaves, earlier_leaves
        who = self.chain, self.anchor, self.node, self.origin
        if earlier.size == later.size:
            return Fork(*who, earlier, later) if earlier.root != later.root else None
        before, after = earlier_leaves[: earlier.size], later_leaves[: later.size]
        if len(before) == earlier.size and len(after) == later.size:
            for index, (old, new) in enumerate(zip(before, after, strict=False)):
                if old != new:
                    found = _found(before, index), _found(after, index)
                    return Rewrite(*who, index, earlier, found[0], later, found[1])
            return None
        return Silence(*who, earlier, later) if earlier.size else None

    def twins(self, first: SignedReceipt, second: SignedReceipt) -> Twins:
        """Return that two receipts have one number."""
        who = self.chain, self.anchor, self.node
        return Twins(*who, replace(first, salts=None), replace(second, salts=None))

    def drop(self, head: Head, receipt: SignedReceipt, leaf: bytes, path: Sequence[bytes]) -> Drop:
        """Return that `leaf` stands where the receipt belongs, by an inclusion proof."""
        who = self.chain, self.anchor, self.node, self.origin
        return Drop(*who, head, Inclusion(leaf, tuple(path)), replace(receipt, salts=None))

    def drop_from(self, head: Head, receipt: SignedReceipt, leaves: Sequence[bytes]) -> Drop | None:
        """Return the same from the leaf hashes of the head's log; None if it ends before."""
        seq = receipt.receipt.seq
        if seq >= head.size or len(leaves) < head.size:
            return None
        found = _found(leaves[: head.size], seq)
        return self.drop(head, receipt, found.leaf, found.path)


def _found(leaves: Sequence[bytes], index: int) -> Inclusion:
    path = merkle.inclusion_proof(index, len(leaves), merkle.nodes_of(leaves))
    return Inclusion(leaves[index], path)
