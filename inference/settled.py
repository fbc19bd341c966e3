"""What settling and anchoring did, as commands tell it."""

from __future__ import annotations

from dataclasses import dataclass

from inference.audit.checkpoint import SignedCheckpoint
from registry.chain.block import TxReceipt


@dataclass(frozen=True)
class Settled:
    """What one tick did; amounts in atomic units."""

    channels: int
    claimed: int
    settled: int
    gas_used: int

    def to_json(self) -> dict[str, object]:
        """Return it as JSON; amounts as digit strings."""
        return {
            "channels": self.channels,
            "claimed": str(self.claimed),
            "settled": str(self.settled),
            "gas_used": self.gas_used,
        }


@dataclass(frozen=True)
class AnchoredHead:
    """A signed head, and the transaction that anchored it; None when it was anchored before."""

    signed: SignedCheckpoint
    receipt: TxReceipt | None

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        head = self.signed.checkpoint
        return {
            "size": head.size,
            "root": "0x" + head.root.hex(),
            "transaction": self.receipt.text if self.receipt else "",
            "gas_used": self.receipt.gas_used if self.receipt else 0,
        }
