"""`weightproof devnet`: a chain of one's own that lives until Ctrl-C, its state kept in a file."""

from __future__ import annotations

import fcntl
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.devnet_file import prepare_devnet
from registry.errors import ConfigError
from registry.terminal import Terminal


def run(folder: Path, port: int, terminal: Terminal) -> None:
    """Start a devnet on the state in `folder` and wait for Ctrl-C or a polite kill."""
    kept = folder / ".weightproof"
    kept.mkdir(parents=True, exist_ok=True)
    with _alone(kept), Devnet.start(state=kept / "chain.json", port=port) as net:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        path, deployment = prepare_devnet(Chain(net.rpc_url), folder, net.rpc_url)
        terminal.result(
            {"rpc_url": net.rpc_url, "config": str(path.resolve()), **deployment.to_json()},
            title="devnet is running; Ctrl-C ends it",
        )
        with suppress(KeyboardInterrupt):
            # Not signal.pause: a signal that comes just before it would be slept over.
            while True:
                time.sleep(1)


@contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Hold the folder: two chains that write one state file would undo each other's blocks."""
    with (kept / "devnet.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"a devnet is running on {kept.parent.resolve()}",
                hint="use that one, end it first, or give another --folder",
            ) from error
        yield
