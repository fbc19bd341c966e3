"""What the demo did, for people and as one JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.table import Table

from inference.audit.report import Report
from inference.demo.purchases import Purchase
from inference.demo.training import Trained
from registry.register import Registration
from registry.terminal import Terminal


@dataclass
class Summary:
    """Filled step by step; amounts in atomic units of the token."""

    seconds: float = 0.0
    records: dict[str, dict[str, object]] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    purchases: list[Purchase] = field(default_factory=list)
    settlement: dict[str, object] = field(default_factory=dict)
    anchor: dict[str, object] = field(default_factory=dict)
    gas: dict[str, int] = field(default_factory=dict)
    audit: Report | None = None
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Say whether all that should succeed did, and the rest was refused."""
        return self.audit is not None and self.audit.ok and len(self.refusals) == 2

    def add_record(self, name: str, done: Registration) -> None:
        """Note a registration."""
        self.records[name] = {
            "kind": done.manifest.kind.word,
            "id": "0x" + done.id.hex(),
            "manifest_cid": str(done.cid),
        }
        self.gas[f"register {done.manifest.kind.word}"] = done.gas_used

    def add_training(self, trained: Trained) -> None:
        """Note the training example's records and metrics."""
        self.add_record("movie-reviews", trained.dataset)
        self.add_record("all-minilm-l6-v2", trained.base)
        self.add_record("minilm-reviews (run)", trained.run)
        self.add_record("minilm-reviews", trained.model)
        self.metrics = trained.metrics

    def to_json(self) -> dict[str, object]:
        """Return everything as one object."""
        return {
            "ok": self.ok,
            "seconds": round(self.seconds, 1),
            "records": self.records,
            "training_metrics": dict(self.metrics),
            "calls": [purchase.to_json() for purchase in self.purchases],
            "settlement": self.settlement,
            "anchor": self.anchor,
            "gas": self.gas,
            "audit": self.audit.to_json() if self.audit else None,
            "refusals": self.refusals,
        }

    def show(self, terminal: Terminal) -> None:
        """Print the summary for people."""
        terminal.say("")
        terminal.out.print(_records(self))
        terminal.out.print(_calls(self))
        gas = " · ".join(f"{name} {used:,}" for name, used in self.gas.items())
        terminal.say(f"[bold]gas[/]      {gas}")
        terminal.say(
            f"[bold]settled[/]  {self.settlement['claimed']} units claimed from "
            f"{self.settlement['channels']} channel, {self.settlement['settled']} moved"
        )
        for name, reason in self.refusals.items():
            terminal.say(f"[bold]refused[/]  {name}: {reason}")
        passed = [check for check in self.audit.checks if check.ok] if self.audit else []
        verdict = "[green]every check passed[/]" if self.ok else "[red]something failed[/]"
        terminal.say(f"[bold]audit[/]    {len(passed)} of 8 checks ran and held; {verdict}")
        terminal.say(f"[dim]{self.seconds:.0f} seconds[/]")


def _records(summary: Summary) -> Table:
    table = Table("record", "kind", "id", "manifest CID", box=None, title="Records")
    for name, record in summary.records.items():
        short = f"{str(record['id'])[:18]}…"
        table.add_row(name, str(record["kind"]), short, str(record["manifest_cid"]))
    return table


def _calls(summary: Summary) -> Table:
    table = Table("paid call", "answer", "by", "quote", "charged", "receipt", box=None)
    table.title = "Calls (units: a millionth of a DevUSD)"
    for purchase in summary.purchases:
        shown = purchase.to_json()
        said = purchase.said if len(purchase.said) <= 44 else purchase.said[:43] + "…"
        table.add_row(
            purchase.asked[:40],
            said.replace("\n", " "),
            *(str(shown[key]) for key in ("scheme", "quote", "charged", "receipt")),
        )
    return table
