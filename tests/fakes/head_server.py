"""A real WebSocket server that pushes to a reader of heads whatever a test tells it to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

Serve = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def head_server(handle: Serve, **options: Any) -> AsyncIterator[str]:
    """Serve `handle` for each connection; yield the server's address."""
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


async def subscribed(socket: ServerConnection) -> None:
    """Take the subscription, as an honest endpoint does."""
    question = json.loads(await socket.recv())
    assert question["params"] == ["newHeads"]
    answer = {"jsonrpc": "2.0", "id": question["id"], "result": "0xa"}
    await socket.send(json.dumps(answer))


def head(subscription: str = "0xa") -> str:
    """Return a head as it is pushed."""
    parameters = {"subscription": subscription, "result": {"number": "0x1"}}
    return json.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": parameters})
