"""New heads, pushed over a WebSocket: they say when to look, never what is true.

Nothing in a head is believed, so a hostile endpoint can only wake its reader for nothing or let it
sleep until its next poll. The `websockets` library is spoken to directly, the one below web3.py's
own provider: that provider spins while it waits for an answer, logs whole addresses, keys included,
and leaves its socket open after an answer that is not JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from registry.chain.endpoint import host_of
from registry.errors import ChainUnreachableError

# A head has about 1.5 kB; transactions and their like are not asked for.
MAX_MESSAGE_BYTES: Final = 64 * 1024
# Between tries to connect, in seconds: doubled each time, to the most.
_WAIT_FIRST_S: Final = 0.5
_WAIT_MOST_S: Final = 30.0
# A connection that answers no ping within this time is dead.
_PING_S: Final = 10.0
# Closing in order is polite, but a node that stops does not wait for it.
_CLOSE_S: Final = 1.0
_SUBSCRIBE: Final = json.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}
)


class _Silent(logging.Logger):
    """A logger that writes nothing, whatever levels somebody sets.

    The library logs headers, whose first line holds the path of the address, and that an API key.
    """

    def isEnabledFor(self, level: int) -> bool:  # logging's own name
        """Say that no level is on."""
        return False


_SILENT: Final = _Silent("registry.chain.heads.silent")


class Heads:
    """A subscription to new heads at a ws:// or wss:// address, kept up for ever.

    `timeout_s` bounds connecting and subscribing. Raises `ConfigError` for another address.
    """

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self.host: Final = host_of(url, ("ws", "wss"))
        self._url: Final = url
        self._timeout_s: Final = timeout_s
        self._pushed = False

    def __repr__(self) -> str:
        """Show the host only: the rest of the address may be a secret."""
        return f"Heads({self.host})"

    @property
    def pushed(self) -> bool:
        """Whether the subscription stands now."""
        return self._pushed

    async def follow(self, wake: Callable[[], object]) -> None:
        """Call `wake` at every new head, until cancelled; what breaks is begun again."""
        wait = _WAIT_FIRST_S
        while True:
            began = time.monotonic()
            # Nothing is told here: whoever polls meanwhile says what is wrong with the chain.
            with suppress(OSError, ValueError, WebSocketException, ChainUnreachableError):
                await self._listen(wake)
            self._pushed = False
            await asyncio.sleep(wait)
            # Only what lasted is begun anew at once: else one that opens and closes is in a loop.
            lasted = time.monotonic() - began > 2 * _WAIT_MOST_S
            wait = _WAIT_FIRST_S if lasted else min(2 * wait, _WAIT_MOST_S)

    async def _listen(self, wake: Callable[[], object]) -> None:
        async with _Connect(
            self._url,
            # A proxy meant for the internet must not see a devnet's traffic, and heads are no
            # more than a hint: behind a proxy that must be used, they are polled.
            proxy=None,
            compression=None,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=self._timeout_s,
            ping_interval=_PING_S,
            ping_timeout=_PING_S,
            close_timeout=_CLOSE_S,
            logger=_SILENT,
        ) as socket:
            async with asyncio.timeout(self._timeout_s):
                subscription = await self._subscribe(socket)
            self._pushed = True
            # What came between the last look and the subscription is seen now.
            wake()
            async for message in socket:
                if _subscription_of(message) == subscription:
                    wake()

    async def _subscribe(self, socket: ClientConnection) -> str:
        await socket.send(_SUBSCRIBE)
        answer = _object(await socket.recv())
        subscription = answer.get("result")
        if answer.get("id") != 1 or not isinstance(subscription, str):
            raise ChainUnreachableError(f"the chain at {self.host} pushes no heads")
        return subscription


class _Connect(connect):
    """A connection to the address that was given and to no other."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Refuse to be sent elsewhere."""
        return exc


def _subscription_of(message: str | bytes) -> object:
    """Return which subscription a message is of, None when it is of none."""
    parameters = _object(message).get("params")
    return parameters.get("subscription") if isinstance(parameters, dict) else None


def _object(message: str | bytes) -> dict[str, object]:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
