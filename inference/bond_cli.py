"""The commands `weightproof bond`: an owner's stake on a node's honesty."""

from __future__ import annotations

from typing import Annotated

import typer

from inference.session import session
from registry.cli import AsJson, Settings
from registry.terminal import examples

bond = typer.Typer(
    no_args_is_help=True,
    help=(
        "Stake tokens on your node's honesty, so that payers need not trust you.\n\n"
        "The bond stands for everything the node's key signs. Whoever shows the NodeRegistry two "
        "statements of that key that cannot both be true (weightproof report) gets a quarter of "
        "it; the rest is burned. An honest node cannot lose it, as long as it runs or answers "
        "challenges by hand (bond answer) within three days. The key that owns the bond is that "
        "of role owner, else node."
    ),
    epilog=examples("weightproof bond deposit 100000000", "weightproof bond status --json"),
)

Owner = Annotated[
    str, typer.Option("--key", help="Role that owns the bond; default: owner, else node.")
]


@bond.command(
    "deposit",
    epilog=examples(
        "weightproof bond deposit 100000000 --url https://node.example",
        "weightproof bond deposit 5000000 --json",
    ),
)
def bond_deposit(
    amount: Annotated[
        int, typer.Argument(help="In atomic units of the bonds' token.", min=1, max=2**128 - 1)
    ],
    url: Annotated[
        str, typer.Option(help="Where the node answers; default: node.public_url.")
    ] = "",
    key: Owner = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Put the node up: its key, its address and a bond, on chain. Or add to the bond.

    The node's key signs its consent to owner and address; the owner's key pays. A key is put up
    once: after it left or was slashed, a new node needs a new key and a new log.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.bond_command import deposit

        deposit(settings, terminal, amount, url=url, key=key)


@bond.command(
    "status",
    epilog=examples("weightproof bond status", "weightproof bond status --address 0x90F7…"),
)
def bond_status(
    address: Annotated[
        str, typer.Option("--address", help="The node's key, anybody's; default: keys.node.")
    ] = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show what a node has to lose: none, stands, leaving, left or slashed, and until when."""
    with session(as_json, config) as (terminal, settings):
        from inference.bond_command import status

        status(settings, terminal, address=address)


@bond.command("set-url", epilog=examples("weightproof bond set-url https://new.node.example"))
def bond_set_url(
    url: Annotated[str, typer.Argument(help="Where the node answers from now on.")],
    key: Owner = "",
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Say on chain where the node answers now."""
    with session(as_json, config) as (terminal, settings):
        from inference.bond_command import set_url

        set_url(settings, terminal, url, key=key)


@bond.command("withdraw", epilog=examples("weightproof bond withdraw --yes"))
def bond_withdraw(
    key: Owner = "",
    yes: Annotated[bool, typer.Option("--yes", help="Leave without asking.")] = False,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Ask for the bond back; the same command again, after the unbonding delay, pays it out.

    For fourteen days after the first call the bond still stands for all the node signed. Leaving
    cannot be undone, and while a challenge waits nothing is paid out.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.bond_command import withdraw

        withdraw(settings, terminal, key=key, yes=yes)


@bond.command("answer", epilog=examples("weightproof bond answer"))
def bond_answer(config: Settings = None, as_json: AsJson = False) -> None:
    """Answer challenges that wait: show on chain that the log only grew.

    A running node does it by itself at every round (node.settle_every_s is not 0). The challenger's
    stake goes to the bond's owner.
    """
    with session(as_json, config) as (terminal, settings):
        from inference.bond_command import answer

        answer(settings, terminal)
