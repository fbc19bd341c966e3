"""The auditor's report: one result a check, each failure with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

FORMAT: Final = "weightproof/audit@1"


@dataclass(frozen=True)
class CheckResult:
    """How one numbered check ended. A check that was not run is neither good nor bad."""

    number: int
    name: str
    ok: bool
    detail: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    ran: bool = True

    def to_json(self) -> dict[str, object]:
        """Return the result as a JSON object."""
        return {
            "number": self.number,
            "name": self.name,
            "ok": self.ok,
            "ran": self.ran,
            "detail": self.detail,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True)
class Report:
    """What an audit of one log found. `size` and `root` (0x hex) are empty without a checkpoint."""

    node: str
    origin: str
    size: int
    root: str
    checks: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every check that ran is good, and the first, on which all rest, did run."""
        return all(check.ok for check in self.checks if check.ran) and self.checks[0].ran

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that found something wrong, in order."""
        return tuple(check for check in self.checks if check.ran and not check.ok)

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "format": FORMAT,
            "node": self.node,
            "origin": self.origin,
            "size": self.size,
            "root": self.root,
            "ok": self.ok,
            "checks": [check.to_json() for check in self.checks],
        }
