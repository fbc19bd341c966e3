"""The commands `weightproof models`: an operator's view of a running node, and hands on it."""

from __future__ import annotations

from typing import Annotated

import typer

from inference.session import NodeAddress, NodeUrl, session
from registry.cli import AsJson, Settings
from registry.terminal import examples

models = typer.Typer(
    no_args_is_help=True,
    help="List, load, swap and unload the models of a running node, as its operator.",
    epilog=examples("weightproof models list --json", "weightproof models load my-model 0x12…"),
)


@models.command(
    "list", epilog=examples("weightproof models list", "weightproof models list --json")
)
def models_list(
    url: NodeUrl = "",
    address: NodeAddress = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show what the node holds in memory: state, size, calls in flight, when it was last paid."""
    with session(as_json, config) as (terminal, settings):
        from inference.models_command import operator_client, show_models

        with operator_client(settings, url, address) as client:
            show_models(client, terminal)


@models.command(
    "load",
    epilog=examples(
        "weightproof models load my-model",
        "weightproof models load my-model 0x12… --per-call 100 --folder /srv/models/my-model",
    ),
)
def models_load(
    name: Annotated[str, typer.Argument(help="The name it is sold under.")],
    record: Annotated[
        str, typer.Argument(help="ModelId or PUBLISHER/NAME; default: as in the settings.")
    ] = "",
    folder: Annotated[
        str, typer.Option(help="Absolute path on the node's machine; default: the block store.")
    ] = "",
    per_call: Annotated[int | None, typer.Option(help="Price in atomic units.", min=0)] = None,
    input_per_million: Annotated[
        int | None, typer.Option(help="Per million input tokens.", min=0)
    ] = None,
    output_per_million: Annotated[
        int | None, typer.Option(help="Per million made tokens.", min=0)
    ] = None,
    url: NodeUrl = "",
    address: NodeAddress = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Verify and load a model into the running node; one of the same name is replaced by it.

    Calls under way finish on the model they began with. Without a price, that of the settings
    stands. What is loaded so is gone after a restart: the settings file is what `serve` reads.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.models_command import LoadOrder, load_model, operator_client

        order = LoadOrder(name, record, folder, per_call, input_per_million, output_per_million)
        with operator_client(settings, url, address) as client:
            load_model(client, order, settings, terminal)


@models.command("unload", epilog=examples("weightproof models unload my-model"))
def models_unload(
    name: Annotated[str, typer.Argument(help="The name it is sold under.")],
    url: NodeUrl = "",
    address: NodeAddress = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Take a model off sale at once; its memory is freed when its last call has ended.

    A model of the settings file is back after a restart.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.models_command import operator_client

        with operator_client(settings, url, address) as client:
            terminal.result(client.unload(name))
