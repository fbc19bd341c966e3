"""The command `weightproof`: the registry's commands, and those of the node, payer and auditor.

torch and web3 take seconds to import: what needs them is imported by the command that runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from inference import audit_cli, consent_cli
from inference.bond_cli import bond
from inference.log_cli import log
from inference.models_cli import models
from inference.receipt_cli import receipt as receipts
from inference.report_cli import report
from inference.session import NodeAddress, NodeUrl, session
from registry import cli as registry_cli
from registry.cli import AsJson, Settings
from registry.cli import session as registry_session
from registry.terminal import Terminal, examples

app = registry_cli.app
app.add_typer(models, name="models")
app.add_typer(log, name="log")
consent_cli.add_to(app)
audit_cli.add_to(app)
app.add_typer(bond, name="bond")
app.add_typer(report, name="report")
app.add_typer(receipts, name="receipt")


@app.command(epilog=examples("weightproof train ./reviews-model"))
def train(
    folder: Annotated[Path, typer.Argument(help="Where dataset and model are written.")],
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Run the example: fine-tune a sentence encoder on film reviews and register all of it."""
    from inference.demo.training import train_and_register
    from registry.register_command import describe

    with registry_session(as_json, config) as (terminal, workspace):
        trained = train_and_register(folder, workspace, terminal)
        terminal.result(
            {
                "dataset": describe(trained.dataset),
                "run": describe(trained.run),
                "model": describe(trained.model),
                "metrics": dict(trained.metrics),
            }
        )


@app.command(
    epilog=examples(
        "weightproof serve", "weightproof serve --port 0 --json", "weightproof serve --empty"
    )
)
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="Start also if the settings name no model.")
    ] = False,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify and load the models of the settings, and sell answers until Ctrl-C.

    Models come and go meanwhile by `weightproof models`. With --json, one object is printed when
    the node is ready; its `url` says where.
    """
    from inference.server import listen, run

    with session(as_json, config) as (terminal, settings):
        socket = listen(host or settings.host, settings.port if port is None else port)
        url = "http://{}:{}".format(*socket.getsockname()[:2])
        if host is not None or port is not None:
            settings = replace(settings, public_url=url)
        run(settings, socket, terminal, url, empty=empty)


@app.command(epilog=examples("weightproof top", "weightproof top --once --json"))
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one table and end.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2, max=60)] = 2.0,
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Watch a running node: tokens a second, batch, cache, waiting times, income; q ends.

    Rates and times are those of the last minute, with --once those of one second; where nothing
    happened meanwhile, times are those so far. Reads /metrics, which a node tells to its own
    machine only unless node.metrics_public is set. --json prints one object.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.config import node_url
        from inference.top import top as show

        show(url or node_url(settings), terminal, once=once, every_s=every)


@app.command(
    epilog=examples(
        'weightproof chat "What is the capital of France?"',
        'weightproof chat "Name three colours." --yes --save paid.json --json',
    )
)
def chat(
    prompt: Annotated[str, typer.Argument(help="What to ask.")],
    model: Annotated[
        str, typer.Option(help="Name or ModelId; with the id, nothing else may answer.")
    ] = "",
    address: Annotated[str, typer.Option(help="The node's key; default: by its own word.")] = "",
    max_tokens: Annotated[int, typer.Option(help="Longest answer.", min=1)] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.", min=0, max=2)] = 0.0,
    stream: Annotated[bool, typer.Option(help="Print the answer as it is made.")] = True,
    scheme: Annotated[str, typer.Option(help="batch-settlement or exact.")] = "batch-settlement",
    yes: Annotated[bool, typer.Option("--yes", help="Deposit without asking.")] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write the receipt here, request and answer beside it.")
    ] = None,
    key: Annotated[str, typer.Option("--key", help="Role whose wallet pays.")] = "payer",
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Ask a model and pay for the answer with the official x402 client; check its receipt.

    The first call opens a channel: it asks before it deposits. What is left can be refunded.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.chat_command import Ask, ask, show
        from inference.config import node_url

        question = Ask(
            prompt, model, max_tokens, temperature, stream, scheme, yes, key, address, save
        )
        answer = asyncio.run(ask(question, url or node_url(settings), settings, terminal))
        show(answer, terminal)


@app.command(epilog=examples("weightproof prices", "weightproof prices --json"))
def prices(url: NodeUrl = "", config: Settings = None, as_json: AsJson = False) -> None:
    """Show what a node charges: prices by model, tiers, trials, subscriptions. Free of charge."""
    with session(as_json, config) as (terminal, settings):
        from inference.config import node_url
        from inference.prices_command import show_prices

        show_prices(url or node_url(settings), terminal)


@app.command(
    epilog=examples(
        "weightproof coupon --calls 5 --wallet 0x15d3…",
        "weightproof coupon --amount 1000000 --days 7 --models smollm2 --json",
    )
)
def coupon(
    calls: Annotated[int, typer.Option(help="How many calls are free.", min=0)] = 0,
    amount: Annotated[int, typer.Option(help="Or how much of list price.", min=0)] = 0,
    wallet: Annotated[str, typer.Option(help="Who may use it; default: whoever holds it.")] = "",
    models: Annotated[str, typer.Option(help="Names, a comma between two; default: all.")] = "",
    days: Annotated[int, typer.Option(help="How long it holds.", min=1, max=3660)] = 30,
    address: NodeAddress = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Sign a coupon as the node's operator; it is sent as the header Weightproof-Coupon.

    What all its uses take together adds up, whoever uses it.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.prices_command import CouponOrder, make_coupon

        order = CouponOrder(calls, amount, wallet, models, days)
        make_coupon(order, settings, terminal, node=address)


@app.command(epilog=examples("weightproof settle"))
def settle(config: Settings = None, as_json: AsJson = False) -> None:
    """Claim all vouchers on chain, dust too, and move what was claimed to the receiver.

    May run beside `weightproof serve`; the same call twice moves nothing the second time.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.office import Office

        office = Office.open(settings)
        try:
            terminal.result(office.settlement.tick(everything=True).to_json())
        finally:
            office.close()


@app.command(epilog=examples("weightproof checkpoint"))
def checkpoint(config: Settings = None, as_json: AsJson = False) -> None:
    """Sign the head of the audit log and anchor it on chain."""
    with session(as_json, config) as (terminal, settings):
        from inference.office import Office

        office = Office.open(settings)
        try:
            terminal.result(office.settlement.anchor().to_json())
        finally:
            office.close()


@app.command(epilog=examples("weightproof probe 0x12… --address 0x90F7… --tensors 64"))
def probe(
    model: Annotated[str, typer.Argument(help="ModelId, PUBLISHER/NAME, or the node's name.")],
    address: Annotated[str, typer.Option(help="The node's key; default: by its own word.")] = "",
    tensors: Annotated[int, typer.Option(help="How many to hash.", min=1, max=64)] = 8,
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Ask a node to hash its weights where they lie; check its signed answer against the chain.

    Free of charge. Exit 6 if the answer is false: --json prints it as evidence.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.config import node_url
        from inference.probe_command import run

        where = url or node_url(settings)
        if not run(settings.registry, where, model, terminal, address=address, tensors=tensors):
            raise typer.Exit(6)


@app.command(epilog=examples("weightproof demo", "weightproof demo --folder /tmp/demo --json"))
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
    app(prog_name="weightproof")
