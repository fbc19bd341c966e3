"""The command `weightproof consent`: a payer lets an auditor see calls."""

from __future__ import annotations

from typing import Annotated

import typer

from inference.session import NodeAddress, session
from registry.cli import AsJson, Settings
from registry.terminal import examples

_EXAMPLES = examples(
    "weightproof consent --auditor 0x15d3… > consent.json",
    "weightproof consent --wallet 0x9fE4… --key payer > consent.json",
    "weightproof consent --receipt rcpt_0123… --days 7 > consent.json",
)


def consent(
    auditor: Annotated[str, typer.Option(help="Who may see them; default: anybody.")] = "",
    receipt: Annotated[
        str, typer.Option(help="Id of the one call; default: those the beacon chooses.")
    ] = "",
    rate: Annotated[
        int, typer.Option(help="How many of 10,000 calls may be chosen.", min=1, max=10_000)
    ] = 100,
    days: Annotated[int, typer.Option(help="How long it holds.", min=1, max=3660)] = 30,
    key: Annotated[str, typer.Option("--key", help="Role whose wallet paid.")] = "payer",
    wallet: Annotated[str, typer.Option(help="The contract that paid, if one did.")] = "",
    address: NodeAddress = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Sign, as a payer, that an auditor may see your calls at a node; print the consent.

    Whoever holds it can ask the node for the prompts it is about: give it to the auditor alone.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.audit.disclosure import disclosure_domain
        from inference.disclosure_client import consent as signed
        from registry.config import checked_address
        from registry.workspace import Workspace

        workspace, contracts = Workspace.open(settings.registry), settings.registry.contracts
        node = checked_address(address, "--address") if address else ""
        made = signed(
            workspace.signer(key),
            disclosure_domain(contracts.chain_id, contracts.audit_anchor),
            node=node or workspace.signer("node").address,
            auditor=checked_address(auditor, "--auditor") if auditor else "",
            receipt=receipt,
            rate=rate,
            days=days,
            wallet=checked_address(wallet, "--wallet") if wallet else "",
        )
        terminal.result(made.to_json())


def add_to(app: typer.Typer) -> None:
    """Add the command to an application."""
    app.command(epilog=_EXAMPLES)(consent)
