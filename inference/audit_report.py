"""How a report is told: lines and figures on a terminal, a page, files of evidence."""

from __future__ import annotations

from collections.abc import Sequence

from inference.audit.report import BUNDLE, CheckResult, Report
from registry.terminal import Terminal, plain


def show(report: Report, terminal: Terminal) -> None:
    """Print one line a check, or the whole report as one object."""
    if terminal.as_json:
        terminal.result(report.to_json())
        return
    show_checks(report, terminal)
    figures = report.figures
    terminal.result(
        {
            "read": f"{figures.entries} entries, {figures.before} were audited before",
            "receipts": str(figures.receipts),
            "charged": f"{figures.charged}: {figures.channels} channels, {figures.exact} transfers",
            "claimed": f"{figures.claimed} on chain, {figures.unclaimed} are not yet",
            "anchored": f"{figures.anchors} heads",
        }
    )
    if report.source == BUNDLE:
        terminal.out.print("the chain was not asked: its part is as the bundle says", markup=False)
    verdict = "every check that ran is good" if report.ok else "something is false"
    more = "" if report.ok else "; --evidence DIR writes the evidence, --json prints it"
    terminal.out.print(f"{report.size} entries of {report.node}: {verdict}{more}", markup=False)


def show_checks(report: Report, terminal: Terminal, *, indent: str = "") -> None:
    """Print one line a check."""
    show_steps(report.checks, terminal, indent=indent)


def show_steps(checks: Sequence[CheckResult], terminal: Terminal, *, indent: str = "") -> None:
    """Print one line a check, also of what is no audit."""
    for check in checks:
        mark = "✓" if check.ok else "✗" if check.ran else "·"
        terminal.out.print(
            f"{indent}{mark} {check.number} {check.name}: {plain(check.detail)}",
            markup=False,
            style="red" if check.ran and not check.ok else None,
        )
        show_steps(check.more, terminal, indent=indent + "  ")
