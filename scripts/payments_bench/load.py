"""A closed loop of ready-made requests over kept-alive connections, and what it measured.

The client shares the processors with the server it measures: every request is bytes beforehand, and
of an answer nothing is read but its length and its status.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from engine_bench.server_process import ServerProcess

from inference.errors import UnavailableError

_LENGTH: Final = b"content-length: "


def request(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join((*lines, "", "")).encode() + body


@dataclass(frozen=True)
class Turn:
    """One side's turn: how long all of it took, and each call, in seconds.

    `server` and `client` are the seconds of processor time that the two processes took.
    """

    seconds: float
    calls: tuple[float, ...]
    server: float
    client: float

    def figures(self) -> dict[str, float]:
        """Return requests a second, the median and 99th percentile of a call in ms, and loads.

        A load is the part of the turn that a process kept a processor busy: of a client at 1
        nothing is learned about its server.
        """
        ordered = sorted(self.calls)
        return {
            "per_s": round(len(ordered) / self.seconds, 1),
            "p50_ms": round(statistics.median(ordered) * 1e3, 3),
            "p99_ms": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3, 3),
            "server_us": round(self.server / len(ordered) * 1e6, 1),
            "client_us": round(self.client / len(ordered) * 1e6, 1),
            "server_load": round(self.server / self.seconds, 3),
            "client_load": round(self.client / self.seconds, 3),
        }


class _Worker(asyncio.Protocol):
    """Sends one request after the other, each as soon as the answer before it is whole."""

    def __init__(self, requests: Sequence[bytes], status: int) -> None:
        self._requests: Final[Iterator[bytes]] = iter(requests)
        self._expected: Final = b"HTTP/1.1 %d" % status
        self.done: Final[asyncio.Future[list[float]]] = asyncio.get_running_loop().create_future()
        self._times: list[float] = []
        self._buffer = b""
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport; `begin` sends the first request."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a TCP connection is a transport of bytes")
        self._transport = transport

    def begin(self) -> None:
        """Send the next request, or end."""
        message = next(self._requests, None)
        if message is None:
            if not self.done.done():
                self.done.set_result(self._times)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        place = head.index(_LENGTH) + len(_LENGTH)
        if len(body) < int(head[place:].split(b"\r\n", 1)[0]):
            return
        self._times.append(time.perf_counter() - self._began)
        if not head.startswith(self._expected):
            self._fail(f"{head[:40]!r} {body[:300]!r}")
            return
        self._buffer = b""
        self.begin()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail a call that was under way."""
        self._fail("the server closed the connection midway")

    def _fail(self, message: str) -> None:
        if not self.done.done():
            self._transport.close()
            self.done.set_exception(UnavailableError(message))


async def run(
    server: ServerProcess, workers: Sequence[Sequence[bytes]], *, status: int = 200
) -> Turn:
    """Run each worker's requests on a connection of its own, all at once.

    Raises `UnavailableError` with an answer that has not the expected status.
    """
    loop = asyncio.get_running_loop()
    opened = []
    for requests in workers:

        def worker(requests: Sequence[bytes] = requests) -> _Worker:
            return _Worker(requests, status)

        opened.append((await loop.create_connection(worker, "127.0.0.1", server.port))[1])
    busy = server.busy_s(), time.process_time()
    began = time.perf_counter()
    for protocol in opened:
        protocol.begin()
    done = await asyncio.gather(*(protocol.done for protocol in opened))
    seconds = time.perf_counter() - began
    calls = tuple(call for calls in done for call in calls)
    return Turn(seconds, calls, server.busy_s() - busy[0], time.process_time() - busy[1])
