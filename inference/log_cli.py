"""The commands `weightproof log`: the log as files, and a witness of other nodes' logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inference.session import session
from registry.cli import AsJson, Settings
from registry.terminal import Terminal, examples

log = typer.Typer(
    no_args_is_help=True,
    help="Export the audit log as static files; cosign the logs of others as a witness.",
    epilog=examples("weightproof log export ./public/log --json", "weightproof log witness --help"),
)


@log.command("export", epilog=examples("weightproof log export ./public/log --json"))
def export_log(
    folder: Annotated[Path, typer.Argument(help="Served by any static file server or CDN.")],
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write checkpoint and tiles (C2SP tlog-tiles) into a folder; later, what is new since.

    May run beside `weightproof serve`, by cron. Auditors read it: `weightproof audit --tiles`.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.log_export import count, export
        from inference.office import Office

        office = Office.open(settings)
        try:
            note = office.cosigning.head()
            with terminal.steps_bar("exporting", count(folder, note)) as advance:
                done = export(office.database, office.log, note, folder, advance)
            terminal.result(done.to_json() | {"folder": str(folder)})
        finally:
            office.close()


@log.command(
    "witness",
    epilog=examples("weightproof log witness witness.example/w1 --log 'node.example/log+0a…+AY8…'"),
)
def witness(
    name: Annotated[str, typer.Argument(help="The witness's key name, such as its address.")],
    logs: Annotated[list[str], typer.Option("--log", help="Key of a log: `vkey` at /v1/log.")],
    folder: Annotated[
        Path,
        typer.Option(help="Where its key and what it saw are kept; never restore an old copy."),
    ] = Path(".weightproof/witness"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8403,
    as_json: AsJson = False,
) -> None:
    """Cosign the heads of other nodes' logs, each of which must extend the one before.

    Needs no settings and no chain. Makes its key at first; prints what nodes and auditors need.
    """
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        from inference.witness_server import run

        run(name, logs, folder, host, port, terminal)
