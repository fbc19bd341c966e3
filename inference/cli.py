"""The command `weightproof`: the registry's commands, and those of the node, payer and auditor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from inference.config import NodeConfig, load, node_url
from registry import cli as registry_cli
from registry.chain.dev_usd import ONE
from registry.cli import AsJson, Settings
from registry.terminal import Terminal

app = registry_cli.app
NodeUrl = Annotated[str, typer.Option("--node", help="The node's address; default: settings.")]


@contextmanager
def _session(as_json: bool, config: Path | None) -> Iterator[tuple[Terminal, NodeConfig]]:
    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        yield terminal, load(config)


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(help="Where dataset and model are written.")],
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Run the example: fine-tune a sentence encoder on film reviews and register all of it."""
    # torch takes seconds to import; only the commands that compute pay for it.
    from inference.demo.training import train_and_register

    with registry_cli.session(as_json, config) as (terminal, workspace):
        trained = train_and_register(folder, workspace, terminal)
        terminal.result(
            {
                "dataset": registry_cli.describe(trained.dataset),
                "run": registry_cli.describe(trained.run),
                "model": registry_cli.describe(trained.model),
                "metrics": dict(trained.metrics),
            }
        )


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify and load the models of the settings, and sell answers until Ctrl-C.

    With --json, one object is printed when the node is ready; its `url` says where.
    """
    from inference.server import listen, run

    with _session(as_json, config) as (terminal, settings):
        socket = listen(host or settings.host, settings.port if port is None else port)
        url = "http://{}:{}".format(*socket.getsockname()[:2])
        if host is not None or port is not None:
            settings = replace(settings, public_url=url)
        run(settings, socket, terminal, url)


@app.command()
def chat(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[str, typer.Option(help="Model; default: the first that chats.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0, max=2)] = 0.0,
    stream: Annotated[bool, typer.Option(help="Print the answer as it is made.")] = True,
    scheme: Annotated[str, typer.Option(help="batch-settlement or exact.")] = "batch-settlement",
    yes: Annotated[bool, typer.Option("--yes", help="Deposit without asking.")] = False,
    save: Annotated[Path | None, typer.Option(help="Write receipt and request here.")] = None,
    key: Annotated[str, typer.Option("--key", help="Role whose wallet pays.")] = "payer",
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model and pay for the answer with the official x402 client; check its receipt."""
    from inference.chat_command import Ask, ask
    from inference.shown import Shown, save_shown

    with _session(as_json, config) as (terminal, settings):
        question = Ask(prompt, model, max_tokens, temperature, stream, scheme, yes, key)
        answer = asyncio.run(ask(question, url or node_url(settings), settings, terminal))
        if save is not None:
            save_shown(save, Shown(answer.signed, answer.request))
        if as_json:
            bundle = answer.signed.bundle()
            terminal.result(
                {"text": answer.text, "charged": str(answer.charged), "receipt": bundle}
            )
            return
        receipt = answer.signed.receipt
        terminal.say(
            f"\n[dim]{receipt.tokens.input} + {receipt.tokens.output} tokens cost "
            f"{answer.charged / ONE:.6f} · receipt {receipt.id} holds[/dim]"
        )


@app.command()
def settle(config: Settings = None, as_json: AsJson = False) -> None:
    """Claim vouchers on chain and move what was claimed to the receiver."""
    from inference.office import Office

    with _session(as_json, config) as (terminal, settings):
        office = Office.open(settings)
        try:
            terminal.result(office.settlement.tick().to_json())
        finally:
            office.close()


@app.command()
def checkpoint(config: Settings = None, as_json: AsJson = False) -> None:
    """Sign the head of the audit log and anchor it on chain."""
    from inference.office import Office

    with _session(as_json, config) as (terminal, settings):
        office = Office.open(settings)
        try:
            terminal.result(office.settlement.anchor().to_json())
        finally:
            office.close()


@app.command()
def audit(
    receipt: Annotated[
        list[Path] | None,
        typer.Option(help="Receipt that must be in the log; replayed if RECEIPT.request is there."),
    ] = None,
    address: Annotated[str, typer.Option(help="The node's key; default: by its own word.")] = "",
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Check a node from outside: its log, receipts, charges, models. Exit 6 if anything is false.

    Give --address: without it the audit is of whoever answers.
    """
    from inference.audit_command import run_audit
    from inference.shown import read_shown

    with _session(as_json, config) as (terminal, settings):
        shown = [read_shown(path) for path in receipt or []]
        report = run_audit(
            settings, url or node_url(settings), terminal, address=address, shown=shown
        )
        terminal.result(report.to_json())
        if not report.ok:
            raise typer.Exit(6)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where everything is put.")] = Path(
        ".weightproof/demo"
    ),
    as_json: AsJson = False,
) -> None:
    """Show the whole thing on a devnet of its own: train, register, sell, settle, audit, refuse."""
    from inference.demo.story import tell

    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        report = tell(folder, terminal)
        if as_json:
            terminal.result(report.to_json())
        if not report.ok:
            raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    app()
