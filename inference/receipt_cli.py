"""The commands `weightproof receipt`: verify what a payer holds, save proofs, print schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inference.session import NodeUrl, session
from registry.cli import AsJson, Settings
from registry.errors import ConfigError
from registry.terminal import Terminal, examples

receipt = typer.Typer(
    no_args_is_help=True,
    help="Verify receipts and proofs, save proofs while a node lives, print the schemas.",
    epilog=examples(
        "weightproof receipt verify paid.json",
        "weightproof receipt prove paid.json --save proof.json",
        "weightproof receipt schema receipt@1",
    ),
)
_Address = Annotated[
    str, typer.Option("--address", help="The key that must have signed; default: by its own word.")
]


@receipt.command(
    "verify",
    epilog=examples(
        "weightproof receipt verify paid.json --address 0x90F7…",
        "weightproof receipt verify proof.json --offline",
        "weightproof receipt verify paid.json --offline --anchor 0x5FbD… --json",
    ),
)
def verify(
    file: Annotated[
        Path, typer.Argument(help="What `chat --save` or `receipt prove --save` wrote.")
    ],
    address: _Address = "",
    request: Annotated[
        Path | None, typer.Option(help="The request's exact bytes; default: FILE's .request.")
    ] = None,
    response: Annotated[
        Path | None, typer.Option(help="The answer's exact bytes; default: FILE's .response.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask nobody, and read no settings.")
    ] = False,
    anchor: Annotated[
        str, typer.Option(help="AuditAnchor of the node's log; for a bare receipt offline.")
    ] = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Take a receipt or a proof through seven steps; no node is asked. Exit 6 if one fails.

    1 signature · 2 request and response · 3 charge · 4 inclusion in the log · 5 the log's signed
    head · 6 that head, anchored · 7 the model's record. A bare receipt has steps 1 to 3 and 7; a
    proof has all. 6 and 7 ask the chain of the settings; with --offline they are not run, and what
    the proof says of the chain is the word of whoever saved it. Exit 3: the file is of no known
    format, or not of the form it claims.
    """
    from inference.held import read_held
    from inference.receipt_command import Against, show, verify_alone, verify_here

    against = Against(address, anchor)
    if offline:
        terminal = Terminal(as_json=as_json)
        with terminal.guarded():
            verdict = verify_alone(read_held(file, request=request, response=response), against)
            show(verdict, terminal)
    else:
        with session(as_json, config) as (terminal, settings):
            if anchor:
                raise ConfigError("--anchor goes with --offline: the settings name the contract")
            verdict = verify_here(
                read_held(file, request=request, response=response), against, settings
            )
            show(verdict, terminal)
    if not verdict.ok:
        raise typer.Exit(6)


@receipt.command(
    "prove",
    epilog=examples(
        "weightproof receipt prove paid.json --save proof.json",
        "weightproof receipt prove paid.json --public --save public.json",
        "weightproof receipt prove --entry 12 --save refund.json",
    ),
)
def prove(
    file: Annotated[
        Path | None, typer.Argument(help="What `chat --save` wrote, or an older proof.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Where the proof is written.")] = None,
    entry: Annotated[
        int | None, typer.Option(help="Instead of FILE: a place in the log.", min=0)
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Leave out salts, request and answer.")
    ] = False,
    address: _Address = "",
    url: NodeUrl = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Fetch from a node and the chain what shows that an entry is logged; verify it; save it.

    The file then verifies without the node, for ever. It holds the request and the answer where
    they lie beside FILE; --public makes one that shows what was charged and logged, not what was
    said. Prove again after the next anchor to have the anchored head in it. A refund is a note of
    the log: --entry names its place. Exit 6 if anything is false; nothing is saved then.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.config import node_url
        from inference.held import read_held
        from inference.receipt_command import save_proof, show

        if (file is None) == (entry is None):
            raise ConfigError("name one thing to prove", hint="FILE or --entry N")
        if save is None:
            raise ConfigError("--save is missing", hint="say where the proof is written")
        held = None if file is None else read_held(file)
        verdict = save_proof(
            settings,
            url or node_url(settings),
            held,
            save,
            seq=entry or 0,
            address=address,
            public=public,
        )
        show(verdict, terminal)
        if not verdict.ok:
            raise typer.Exit(6)


@receipt.command(
    "schema",
    epilog=examples("weightproof receipt schema", "weightproof receipt schema proof@1"),
)
def schema(
    name: Annotated[str, typer.Argument(help="Such as receipt@1; without it, all names.")] = "",
    as_json: AsJson = False,
) -> None:
    """Print the JSON Schema (draft 2020-12) of a format; nodes answer it at /v1/schemas/NAME."""
    import json

    from inference.formats import FORMATS, find_format

    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        if not name:
            terminal.result({one.name: one.about for one in FORMATS.values()})
        elif as_json:
            terminal.result(find_format(name).schema)
        else:
            typer.echo(json.dumps(find_format(name).schema, indent=2))
