"""Which log is audited."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AuditTarget:
    """Which log is audited. The auditor must know these, not learn them from the node.

    `node` signs, `origin` names the log, `anchor` and `registry` are contracts of `chain_id`.
    """

    node: str
    origin: str
    chain_id: int
    anchor: str
    registry: str

    @property
    def network(self) -> str:
        """The chain as x402 names it."""
        return f"eip155:{self.chain_id}"
