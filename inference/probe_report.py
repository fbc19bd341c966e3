"""What a probe of a node's memory found, and what that proves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inference.audit.report import CheckResult

FORMAT: Final = "weightproof/probe@1"
NOT_PROVEN: Final = (
    "that it hashed them: their digests are in the manifest, only the signature binds the node",
    "that these tensors compute its answers: a node could keep a clean copy aside; "
    "`weightproof audit --receipt` runs a paid call again",
)


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found. `statement` is the node's, as evidence for whoever doubts."""

    model_id: bytes
    node: str
    checks: tuple[CheckResult, ...]
    proven: str
    statement: Mapping[str, object]

    @property
    def ok(self) -> bool:
        """Whether every check is good."""
        return all(check.ok for check in self.checks)

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "format": FORMAT,
            "model_id": "0x" + self.model_id.hex(),
            "node": self.node,
            "ok": self.ok,
            "checks": [check.to_json() for check in self.checks],
            "proven": [self.proven] if self.ok else [],
            "not_proven": list(NOT_PROVEN),
            "statement": dict(self.statement),
        }
