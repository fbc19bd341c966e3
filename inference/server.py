"""Serving: a socket, a node, and uvicorn between them."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from inference.config import NodeConfig
from inference.door_config import DoorConfig
from registry.errors import ConfigError
from registry.terminal import Terminal

if TYPE_CHECKING:
    import uvicorn

# Seconds that calls in flight get to finish when the node is told to stop.
_GRACE_S: Final = 30
_BACKLOG: Final = 2048
# In seconds. Between two steps an engine's thread asks for the interpreter; as Python is set up, it
# could wait for 5 ms each time.
SWITCH_S: Final = 0.0005


def listen(host: str, port: int) -> socket.socket:
    """Bind before anything is loaded: a port that is taken is found out at once."""
    # asyncio sends small packets at once only where a socket says that it is TCP. Else each answer
    # whose head and body are two packets waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _cannot_listen(f"{host}:{port}", error) from error
    return listener


def run(
    config: NodeConfig,
    listener: socket.socket,
    terminal: Terminal,
    url: str,
    *,
    empty: bool = False,
) -> None:
    """Open the node and serve until Ctrl-C or a polite kill ends it, calls in flight finished.

    `empty` allows settings without a model.
    """
    # uvicorn raises the signal again when it has stopped: asked to end, the command has succeeded.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # torch takes seconds to import, and a port that is taken is told before.
    from inference.api.app import create_app
    from inference.node import Node

    sys.setswitchinterval(SWITCH_S)

    def progress(label: str, _total: int) -> Callable[[int], None]:
        terminal.err.print(f"{label} …", style="dim")
        return lambda _: None

    node = Node.open(config, progress, empty=empty)
    try:
        listener.listen(_BACKLOG)
    except OSError as error:  # somebody else bound the same port, and listened first
        node.close()
        raise _cannot_listen(url, error) from error
    terminal.result(
        {
            "url": url,
            "node": node.signer.address,
            "models": [entry.name for entry in node.catalog],
            "devices": sorted({entry.loaded.device for entry in node.catalog}),
        },
        title="serving; Ctrl-C stops it",
    )
    server = uvicorn_server(create_app(node), config.door)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def uvicorn_server(app: Any, limits: DoorConfig) -> uvicorn.Server:
    """Return what stands between a socket and a node's application."""
    import uvicorn

    from inference.door import Door, guarded

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            http=guarded(Door(limits)),
            # No route speaks them, and a connection that is upgraded would leave by another door.
            ws="none",
            timeout_graceful_shutdown=_GRACE_S,
        )
    )


def _cannot_listen(where: str, error: OSError) -> ConfigError:
    return ConfigError(f"cannot listen on {where}: {error.strerror}", hint="choose another --port")
