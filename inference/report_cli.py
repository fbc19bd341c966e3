"""The commands `weightproof report`: evidence against a node, checked and submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inference.session import session
from registry.cli import AsJson, Settings
from registry.terminal import Terminal, examples

report = typer.Typer(
    no_args_is_help=True,
    help=(
        "Check evidence that a node lied, and have the contract punish it.\n\n"
        "Evidence is a file that an audit writes: two statements that the node's own key signed "
        "and that cannot both be true. It names the node, the chain and the AuditAnchor, and needs "
        "nobody's word."
    ),
    epilog=examples("weightproof report check fork.json", "weightproof report submit fork.json"),
)

File = Annotated[Path, typer.Argument(help="Evidence, weightproof/evidence@1.", exists=True)]


@report.command(
    "make",
    epilog=examples(
        "weightproof report make old.note new.note --address 0x90F7… --save fork.json",
        "weightproof report make mine.json yours.json --address 0x90F7… --save twins.json",
    ),
)
def report_make(
    files: Annotated[
        list[Path], typer.Argument(help="Two notes, two receipts, or a witness's .fork.")
    ],
    address: Annotated[str, typer.Option("--address", help="The node's key, which signed both.")],
    save: Annotated[Path, typer.Option("--save", help="Where the evidence is written.")],
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Make evidence of two statements that you hold: checkpoints' notes, or receipts.

    An audit does it by itself. This is for two payers who compare, and for witnesses. Exit 3 if
    they show nothing. The settings say which chain and contracts they are of.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.report_command import make

        make(settings, files, save, terminal, address=address)


@report.command("check", epilog=examples("weightproof report check fork.json --json"))
def report_check(file: File, as_json: AsJson = False) -> None:
    """Verify evidence offline: no chain, no node, no settings. Exit 3 if it shows nothing."""
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        from inference.report_command import check

        check(file, terminal)


@report.command(
    "submit",
    epilog=examples(
        "weightproof report submit fork.json --simulate",
        "weightproof report submit fork.json --key reporter --json",
    ),
)
def report_submit(
    file: File,
    key: Annotated[str, typer.Option("--key", help="Role that reports and is rewarded.")] = "payer",
    simulate: Annotated[
        bool, typer.Option("--simulate", help="Say what would happen; send nothing.")
    ] = False,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Hand evidence to the NodeRegistry: a quarter of the bond is yours, the rest is burned.

    It is checked here and simulated on chain before anything is sent. A node that will not show
    that its log only grew (silence) is asked on chain, for a stake; submit the same file again
    when its three days are over, and stake and share are yours.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.report_command import submit

        submit(settings, file, terminal, key=key, simulate=simulate)
