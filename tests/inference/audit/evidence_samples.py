"""A node that lies in every way that costs a bond, and the evidence of each lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from inference.audit import merkle
from inference.audit.accusation import Accused, head_of
from inference.audit.checkpoint import Checkpoint, checkpoint_domain, sign
from inference.audit.evidence import Drop, Evidence, Fork, Head, Rewrite, Silence, Twins
from inference.receipts import SignedReceipt, issue, receipt_domain
from registry.signing.signer import Signer
from tests.inference.receipt_samples import ANCHOR, CHAIN_ID, NODE, SALTS, call

ORIGIN = "example.org/log"
LIES = ("fork", "twins", "rewrite", "drop", "silence")


def leaves(size: int, *, changed: int | None = None) -> list[bytes]:
    """A log's leaf hashes; from `changed` on it is another log."""
    return [
        merkle.leaf_hash(f"{i}{'' if changed is None or i < changed else 'x'}".encode())
        for i in range(size)
    ]


@dataclass(frozen=True)
class Liar:
    """Signs whatever it is asked to."""

    key: Signer = NODE
    anchor: str = ANCHOR
    chain: int = CHAIN_ID
    origin: str = ORIGIN
    leaves: list[bytes] = field(default_factory=lambda: leaves(11))
    other: list[bytes] = field(default_factory=lambda: leaves(11, changed=6))

    @property
    def accused(self) -> Accused:
        return Accused(self.chain, self.anchor, self.key.address, self.origin)

    def head(self, log: Sequence[bytes], size: int, key: Signer | None = None) -> Head:
        domain = checkpoint_domain(self.chain, self.anchor)
        checkpoint = Checkpoint(self.origin, size, merkle.root(log[:size]))
        return head_of(sign(checkpoint, key or self.key, domain))

    def receipt(self, seq: int, charged: int = 0, key: Signer | None = None) -> SignedReceipt:
        facts = call(charged=charged)
        domain = receipt_domain(self.chain, self.anchor)
        return issue(key or self.key, domain, facts, seq=seq, prev=bytes(32), salts=SALTS)

    def fork(self) -> Fork:
        found = self.accused.heads(self.head(self.leaves, 9), self.head(self.other, 9))
        assert isinstance(found, Fork)
        return found

    def twins(self) -> Twins:
        return self.accused.twins(self.receipt(4, 1), self.receipt(4, 2))

    def rewrite(self) -> Rewrite:
        heads = self.head(self.leaves, 8), self.head(self.other, 11)
        found = self.accused.heads(*heads, earlier_leaves=self.leaves[:8], later_leaves=self.other)
        assert isinstance(found, Rewrite)
        return found

    def drop(self) -> Drop:
        found = self.accused.drop_from(self.head(self.leaves, 9), self.receipt(4), self.leaves)
        assert found is not None
        return found

    def silence(self) -> Silence:
        found = self.accused.heads(self.head(self.leaves, 8), self.head(self.other, 11))
        assert isinstance(found, Silence)
        return found

    def evidence(self, lie: str) -> Evidence:
        made: Evidence = getattr(self, lie)()
        return made

    def honest(self) -> dict[str, Evidence]:
        """What a mistaken reporter could write about a node that did not lie."""
        log, who = self.leaves, self.accused
        at = (who.chain, who.anchor, who.node)
        kept = self.receipt(4)
        logged = [*log[:4], kept.entry().leaf(), *log[5:]]
        one = replace(kept, salts=None)
        rewrite = self.rewrite()
        return {
            "fork": Fork(*at, ORIGIN, self.head(log, 9), self.head(log, 9)),
            "fork that grew": Fork(*at, ORIGIN, self.head(log, 8), self.head(log, 9)),
            "twins": Twins(*at, one, one),
            "twins apart": self.accused.twins(self.receipt(4), self.receipt(5)),
            "rewrite": replace(rewrite, second=rewrite.first, in_second=rewrite.in_first),
            "drop": _must(who.drop_from(self.head(logged, 9), kept, logged)),
            "silence": Silence(*at, ORIGIN, self.head(log, 9), self.head(log, 9)),
            "silence backwards": Silence(*at, ORIGIN, self.head(log, 9), self.head(log, 8)),
        }


def _must(found: Drop | None) -> Drop:
    assert found is not None
    return found
