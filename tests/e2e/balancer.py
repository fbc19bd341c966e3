"""One address for several nodes: each connection is one request, and goes to the next of them."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from urllib.parse import urlsplit

_KEEP_ALIVE = re.compile(rb"(?i)\r\nconnection: *keep-alive")


class Balancer:
    """Passes requests on to `urls` in turn; who cannot be reached is passed over.

    `served` counts the connections by node.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.served: Counter[str] = Counter()
        self._turns = itertools.cycle(urls)
        self._count = len(urls)
        self.url = ""

    async def serve(self, ready: threading.Event, end: asyncio.Event) -> None:
        async with await asyncio.start_server(self._pass, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await end.wait()

    async def _pass(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with closing(back), suppress(OSError, asyncio.IncompleteReadError):
            node, to_node = await self._next()
            with closing(to_node):
                head = await client.readuntil(b"\r\n\r\n")
                # So that the next request is another connection, and comes to the next node.
                to_node.write(_KEEP_ALIVE.sub(b"\r\nconnection: close", head))
                await asyncio.gather(_pipe(client, to_node), _pipe(node, back))

    async def _next(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for url in itertools.islice(self._turns, self._count):
            place = urlsplit(url)
            with suppress(OSError):
                found = await asyncio.open_connection(place.hostname, place.port)
                self.served[url] += 1
                return found
        raise ConnectionRefusedError


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with closing(target):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


@contextmanager
def balanced(urls: Sequence[str]) -> Iterator[Balancer]:
    """Serve from a thread until the end."""
    balancer, ready = Balancer(urls), threading.Event()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(balancer.serve(ready, end))

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield balancer
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
