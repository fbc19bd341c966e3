"""Serving a witness of heads: its key, its memory, a socket."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from inference.audit.head_witness import HeadWitness
from inference.audit.note import ED25519, VerifierKey
from inference.door_config import DoorConfig
from inference.seen_heads import SeenHeads
from inference.server import listen, uvicorn_server
from inference.witness_key import open_key
from registry.errors import ConfigError
from registry.terminal import Terminal


def run(
    name: str, logs: Sequence[str], folder: Path, host: str, port: int, terminal: Terminal
) -> None:
    """Cosign the heads of `logs`, given by their keys, until Ctrl-C or a polite kill."""
    # uvicorn raises the signal again when it has stopped: asked to end, the command has succeeded.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from inference.api.cosign import create_witness_app

    watched = [VerifierKey.parse(text) for text in logs]
    if odd := [key.text for key in watched if key.kind != ED25519]:
        raise ConfigError(f"--log {odd[0]} is a witness's key, not a log's")
    key = open_key(folder / "key", name)
    witness = HeadWitness(key, watched, SeenHeads(folder))
    listener = listen(host, port)
    listener.listen()
    url = "http://{}:{}".format(*listener.getsockname()[:2])
    terminal.result(
        {"url": url, "key": key.cosigner.text, "logs": [log.name for log in watched]},
        title="cosigning; Ctrl-C stops it",
    )
    server = uvicorn_server(create_witness_app(witness), DoorConfig())
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
