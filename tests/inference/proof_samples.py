"""Proofs of the vectors, and what becomes of one by a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors" / "receipts"
VECTORS: dict[str, Any] = {
    f"{path.parent.name}-{path.stem}": json.loads(path.read_text())
    for path in sorted(FOLDER.rglob("*.json"))
}
PROOFS: dict[str, str] = {name: v["proof"] for name, v in VECTORS.items() if "proof" in v}
CHANNEL = "v1-ok_channel"
RECORDED = "v1-ok_recorded"
REFUND = "notes-refund"


def canonical(value: Any) -> str:
    """Return canonical JSON of texts, integers and ASCII keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def changed(change: Callable[[Any], object], name: str = CHANNEL) -> str:
    """Return a vector's proof with one change, canonical again."""
    proof = json.loads(PROOFS[name])
    change(proof)
    return canonical(proof)


def receipt_of(proof: Any) -> Any:
    """Return the receipt inside a proof's JSON."""
    return proof["entry"]["body"]["receipt"]
