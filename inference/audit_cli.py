"""The command `weightproof audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from inference.session import NodeUrl, session
from registry.cli import AsJson, Settings
from registry.errors import ConfigError
from registry.terminal import Terminal, examples

if TYPE_CHECKING:
    from inference.audit.report import Report
    from inference.audit.target import AuditTarget


Receipts = Annotated[
    list[Path] | None,
    typer.Option(help="Receipt that must be in the log; replayed if RECEIPT.request is there."),
]
Tiles = Annotated[
    str, typer.Option(help="Read the log from tiles: an exported folder, or its address.")
]
Witnesses = Annotated[
    list[str] | None, typer.Option(help="Key of a witness that must have cosigned the log.")
]
Replay = Annotated[
    int, typer.Option(help="So many calls that the beacon chose are replayed too.", min=0)
]
Consents = Annotated[
    list[Path] | None, typer.Option(help="Payers' consents to see the calls chosen.")
]
Asker = Annotated[str, typer.Option("--key", help="Role that asks to see them.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Read only what is new since the last good audit.")
]
State = Annotated[
    Path | None, typer.Option(help="The same, and where what was good is remembered.")
]
Save = Annotated[Path | None, typer.Option(help="Save all that the audit was told as a bundle.")]
FromBundle = Annotated[
    Path | None, typer.Option(help="Audit a saved bundle: neither node nor chain is asked.")
]
Page = Annotated[Path | None, typer.Option(help="Write the report as a page (HTML).")]
Found = Annotated[Path | None, typer.Option(help="Write each finding's evidence into this folder.")]
Origin = Annotated[str, typer.Option(help="The log's name; default: by the node's word.")]
Address = Annotated[str, typer.Option(help="The node's key; default: by its own word.")]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "weightproof audit --address 0x90F7…",
            "weightproof audit --address 0x90F7… --receipt paid.json --json",
            "weightproof audit --address 0x90F7… --replay 5 --consent consent.json",
            "weightproof audit --address 0x90F7… --resume --report audit.html --evidence ./found",
            "weightproof audit --address 0x90F7… --save audit.bundle",
            "weightproof audit --bundle audit.bundle",
        )
    )(audit)


def audit(
    receipt: Receipts = None,
    tiles: Tiles = "",
    witness: Witnesses = None,
    replay: Replay = 0,
    consent: Consents = None,
    key: Asker = "payer",
    resume: Resume = False,
    state: State = None,
    save: Save = None,
    bundle: FromBundle = None,
    report: Page = None,
    evidence: Found = None,
    origin: Origin = "",
    address: Address = "",
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check a node from outside: its log, receipts, charges, models.

    Exits with 20 and the number of the first check that failed, 21 to 28. Give --address: without
    it the audit is of whoever answers. Replays, and bundles, are of the whole log.
    """
    from inference.shown import read_shown

    terminal = Terminal(as_json=as_json)
    if bundle is not None:
        with terminal.guarded():
            if save or state or resume or replay or tiles or witness or consent or origin:
                raise ConfigError("--bundle goes with --receipt, --address, --report, --evidence")
            from inference.audit_command import run_bundle

            shown = [read_shown(path) for path in receipt or []]
            done, target = run_bundle(bundle, terminal, address=address, shown=shown)
            _tell(done, target, terminal, report, evidence)
        return
    with session(as_json, config) as (terminal, settings):
        from inference.audit_command import Sample, run_audit, target_of
        from inference.audit_memory import AuditMemory
        from inference.config import node_url, state_folder
        from inference.disclosure_client import read_consent

        shown = [read_shown(path) for path in receipt or []]
        found = run_audit(
            settings,
            url or node_url(settings),
            terminal,
            address=address,
            origin=origin,
            shown=shown,
            tiles=tiles,
            witnesses=witness or (),
            sample=Sample(replay, key, [read_consent(path) for path in consent or []]),
            memory=AuditMemory(state_folder(), state) if resume or state else None,
            save=save,
        )
        _tell(found, target_of(settings, found.node, found.origin), terminal, report, evidence)


def _tell(
    done: Report, target: AuditTarget, terminal: Terminal, page: Path | None, folder: Path | None
) -> None:
    """Show a report, write what was asked for, and leave with its exit code."""
    from inference.audit.report_page import page as page_of
    from inference.audit_report import show
    from inference.finding_files import write_findings
    from inference.whole_file import write_whole

    if page is not None:
        write_whole(page, page_of(done).encode())
    if folder is not None:
        for path in write_findings(done, target, folder):
            terminal.say(f"evidence: {escape(str(path))}")
    show(done, terminal)
    if not done.ok:
        raise typer.Exit(done.exit_code)
