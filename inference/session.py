"""What every command of node, payer and auditor begins with: a terminal and the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.terminal import Terminal

if TYPE_CHECKING:
    from inference.config import NodeConfig

NodeUrl = Annotated[str, typer.Option("--node", help="The node's address; default: settings.")]
NodeAddress = Annotated[str, typer.Option("--address", help="The node's key; default: keys.node.")]


@contextmanager
def session(as_json: bool, config: Path | None) -> Iterator[tuple[Terminal, NodeConfig]]:
    """Read the settings; whatever fails inside is printed as one sentence."""
    from inference.config import load

    terminal = Terminal(as_json=as_json)
    with terminal.guarded():
        yield terminal, load(config)
