"""A node answers challenges: it shows on chain that its log only grew, or it loses its bond.

Anybody may put two of the node's own heads to it (`NodeRegistry.challenge`), for a stake that the
node's owner gets with the answer. The node looks at every round, has days for it, and asks the
chain one question while none waits.

1. does any challenge wait?
2. what was sent before is followed; while an answer waits to be mined no other is sent
3. which two sizes are asked about, and are the two heads this log's own?
4. the consistency proof is sent, and the log tells of the answer when it is mined
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from inference.audit.merkle import ProofError
from inference.audit.node_registry import Asked, NodeRegistry, challenge_id
from inference.errors import SettlementError
from inference.settlement import Settlement
from registry.errors import TransactionFailedError

# One node at a time answers for all that share the database.
_ALONE: Final = "answering"


@dataclass(frozen=True)
class Heads:
    """Two heads of the log, each as its size and root, and the proof between them."""

    old: tuple[int, bytes]
    new: tuple[int, bytes]
    proof: tuple[bytes, ...]


@dataclass
class Answering:
    """Answers for one node. Every method waits for the chain: call it from a thread."""

    settlement: Settlement
    registry: NodeRegistry
    # The first block that a challenge which waits can stand in.
    _since: int | None = field(default=None, init=False)
    _told: set[bytes] = field(default_factory=set, init=False)

    def answer(self) -> int:
        """Answer what waits; return how many were answered.

        Raises `ChainError`, and `SettlementError` while something that was asked cannot be
        answered: the log then differs from what the node signed, and its bond is in danger.
        """
        if not (count := self._count()):  # 1
            return 0
        with self.settlement.database.exclusive(_ALONE):
            self.settlement.follow("answer")  # 2
            done = [asked for asked in self._waiting(count) if self._answer(asked)]
        return len(done)

    @property
    def _node(self) -> str:
        return self.settlement.signer.address

    def _count(self) -> int:
        """Return how many challenges wait."""
        head = self.settlement.chain.head()
        bond = self.registry.bond(self._node)
        count = bond.challenges if bond is not None and not bond.slashed_at else 0
        if not count:
            # What comes now stands in a later block, or in this one.
            self._since = head.number
        return count

    def _waiting(self, count: int) -> list[Asked]:
        """Return the challenges that wait, `count` of them."""
        found = self._found(self._since) if self._since is not None else []
        # A block that was reorganised may have brought one that stands further back.
        return found if len(found) >= count else self._found(self.settlement.from_block)

    def _found(self, from_block: int) -> list[Asked]:
        asked = self.registry.asked(self._node, from_block=from_block)
        found = [(one, self.registry.challenge(one.id)) for one in asked]
        return [one for one, challenge in found if challenge is not None and challenge.waits]

    def _answer(self, asked: Asked) -> bool:
        heads = self._heads(asked)  # 3
        try:
            receipt = self.registry.answer(
                self.settlement.signer, self._node, heads.old, heads.new, heads.proof
            )
        except TransactionFailedError:
            challenge = self.registry.challenge(asked.id)
            if challenge is None or challenge.waits:
                raise
            return False  # somebody else answered first: anybody may
        self.settlement.noted("answer", receipt)  # 4
        return True

    def _heads(self, asked: Asked) -> Heads:
        log = self.settlement.log

        def read(tx: Connection) -> Heads:
            roots = [log.root(tx, size) for size in (asked.old, asked.new)]
            proof = log.consistency_proof(tx, asked.old, asked.new)
            return Heads((asked.old, roots[0]), (asked.new, roots[1]), proof)

        try:
            heads = self.settlement.database.read(read)
        except ProofError as error:
            raise self._cannot(asked, error.message) from error
        if challenge_id(self._node, *heads.old, *heads.new) != asked.id:
            raise self._cannot(asked, "this log has other heads of these sizes than were signed")
        return heads

    def _cannot(self, asked: Asked, why: str) -> SettlementError:
        """Tell the log once: the question is asked again at every round."""
        name = f"0x{asked.id.hex()}"
        text = f"that {asked.new} entries extend {asked.old} cannot be shown: {why}"
        if asked.id not in self._told:
            self._told.add(asked.id)
            self.settlement.report("challenge unanswerable", name, text)
        return SettlementError(f"challenge {name}: {text}")
