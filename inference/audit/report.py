"""The auditor's report: one result a check, each failure with its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from inference.errors import AuditError

FORMAT: Final = "weightproof/audit@2"
# A check that fails ends the command with this and its number.
EXIT: Final = 20
ASKED: Final = "node and chain"
BUNDLE: Final = "bundle"


@dataclass(frozen=True)
class CheckResult:
    """How one numbered check ended. A check that was not run is neither good nor bad.

    Where it found more than one thing, `more` has the others, one result each.
    """

    number: int
    name: str
    ok: bool
    detail: str
    evidence: Mapping[str, object] = field(default_factory=dict)
    ran: bool = True
    more: tuple[CheckResult, ...] = ()

    @classmethod
    def of(cls, number: int, name: str, finding: AuditError) -> CheckResult:
        """Return the result of a check that found something."""
        more = tuple(cls.of(number, name, other) for other in finding.more)
        return cls(number, name, False, finding.detail, finding.evidence, more=more)

    def to_json(self) -> dict[str, object]:
        """Return the result as a JSON object; `more` is there where there is more."""
        told: dict[str, object] = {
            "number": self.number,
            "name": self.name,
            "ok": self.ok,
            "ran": self.ran,
            "detail": self.detail,
            "evidence": dict(self.evidence),
        }
        if self.more:
            others = ({"detail": one.detail, "evidence": dict(one.evidence)} for one in self.more)
            told["more"] = list(others)
        return told


@dataclass(frozen=True)
class Figures:
    """What an audit counted. Amounts in atomic units; `entries` were read, `before` earlier."""

    entries: int = 0
    before: int = 0
    receipts: int = 0
    charged: int = 0
    claimed: int = 0
    unclaimed: int = 0
    channels: int = 0
    exact: int = 0
    models: int = 0
    anchors: int = 0

    def to_json(self) -> dict[str, object]:
        """Return counts as integers and amounts as decimal text."""
        amounts = ("charged", "claimed", "unclaimed")
        return {
            name: str(value) if name in amounts else value for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class ChannelMoney:
    """What a channel's calls cost, and what of it was claimed on chain, in atomic units."""

    channel: bytes
    charged: int
    claimed: int

    @property
    def unclaimed(self) -> int:
        """What the node may still claim."""
        return self.charged - self.claimed

    def to_json(self) -> dict[str, object]:
        """Return the channel as a JSON object."""
        return {
            "channel": "0x" + self.channel.hex(),
            "charged": str(self.charged),
            "claimed": str(self.claimed),
        }


@dataclass(frozen=True)
class Report:
    """What an audit of one log found. `size` and `root` (0x hex) are empty without a checkpoint.

    `source` says where the facts of node and chain come from: asked now, or saved in a bundle.
    """

    node: str
    origin: str
    size: int
    root: str
    checks: tuple[CheckResult, ...]
    figures: Figures = field(default_factory=Figures)
    channels: Sequence[ChannelMoney] = ()
    source: str = ASKED

    @property
    def ok(self) -> bool:
        """Whether every check that ran is good, and the first, on which all rest, did run."""
        return all(check.ok for check in self.checks if check.ran) and self.checks[0].ran

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that found something wrong, in order."""
        return tuple(check for check in self.checks if check.ran and not check.ok)

    @property
    def exit_code(self) -> int:
        """0, or 20 and the number of the first check that failed."""
        if self.ok:
            return 0
        return EXIT + (self.failed[0].number if self.failed else 1)

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "format": FORMAT,
            "node": self.node,
            "origin": self.origin,
            "size": self.size,
            "root": self.root,
            "ok": self.ok,
            "exitCode": self.exit_code,
            "source": self.source,
            "figures": self.figures.to_json(),
            "channels": [channel.to_json() for channel in self.channels],
            "checks": [check.to_json() for check in self.checks],
        }
