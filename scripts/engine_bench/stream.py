"""An HTTP/1.1 connection as lean as a load client needs, and what came through it.

While a call runs, bytes are noted with their time and nothing else is done: the client shares the
processors with the server it measures. What they mean is read afterwards.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine_bench.calls import Call
from inference.errors import UnavailableError

_READ_BYTES: Final = 1 << 16
_LAST_CHUNK: Final = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Received:
    """An answer as it came: `reads` are (seconds, bytes), the head is in them."""

    began: float
    reads: tuple[tuple[float, bytes], ...]

    def split(self) -> tuple[bytes, bytes]:
        """Return the head and the body's raw bytes."""
        head, _, body = b"".join(piece for _, piece in self.reads).partition(b"\r\n\r\n")
        return head, body

    @property
    def status(self) -> int:
        """Return the status code."""
        return int(self.split()[0].split(b" ", 2)[1])

    def header(self, name: str) -> str:
        """Return a header's value, empty when it is not there."""
        return _header(self.split()[0], name)


class Connection:
    """One kept-alive connection to a server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader: Final = reader
        self._writer: Final = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to a port of the loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=_READ_BYTES))

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Received:
        """Send a request and note its answer until it has ended."""
        lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
        lines += [f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in headers.items())]
        message = "\r\n".join((*lines, "", "")).encode() + body
        reads: list[tuple[float, bytes]] = []
        began = time.perf_counter()
        self._writer.write(message)
        end = _End()
        while not end.reached:
            piece = await self._reader.read(_READ_BYTES)
            if not piece:
                raise UnavailableError("the server closed the connection midway")
            reads.append((time.perf_counter(), piece))
            end.see(piece)
        return Received(began, tuple(reads))

    def close(self) -> None:
        """Close it."""
        self._writer.close()


class _End:
    """Knows when an answer has ended, by its length or by its last chunk."""

    def __init__(self) -> None:
        self.reached = False
        self._head = b""
        self._left: int | None = None
        self._chunked = False
        self._tail = b""

    def see(self, piece: bytes) -> None:
        if self._chunked:
            # JSON has no bare line breaks, so no data can look like the last chunk.
            self._tail = (self._tail + piece)[-len(_LAST_CHUNK) :]
            self.reached = self._tail == _LAST_CHUNK
        elif self._left is not None:
            self._left -= len(piece)
            self.reached = self._left <= 0
        else:
            self._see_head(piece)

    def _see_head(self, piece: bytes) -> None:
        self._head += piece
        head, found, rest = self._head.partition(b"\r\n\r\n")
        if not found:
            return
        self._chunked = _header(head, "transfer-encoding") == "chunked"
        self._left = None if self._chunked else int(_header(head, "content-length") or 0)
        self._tail = b"\r\n"
        self.see(rest)


def read_call(received: Received) -> Call:
    """Return what an event stream says. Raises `UnavailableError` for any other answer."""
    if received.status != 200:
        raise UnavailableError(f"status {received.status}: {received.split()[1][:300]!r}")
    times: list[float] = []
    usage: Mapping[str, Any] = {}
    evidence = False
    for moment, data in _events(received):
        if data == b"[DONE]":
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise UnavailableError(f"the stream failed midway: {data[:300]!r}")
        usage = chunk.get("usage") or usage
        evidence = evidence or "weightproof" in chunk
        if any(choice["delta"].get("content") for choice in chunk["choices"]):
            times.append(moment)
    if not usage or not times:
        raise UnavailableError("the stream had no text or no usage")
    return Call(
        began=received.began,
        ended=received.reads[-1][0],
        times=tuple(times),
        input_tokens=int(usage["prompt_tokens"]),
        output_tokens=int(usage["completion_tokens"]),
        evidence=evidence,
    )


def _events(received: Received) -> Iterator[tuple[float, bytes]]:
    """Yield each event's data with the time at which its last byte was there."""
    waiting = b""
    for moment, data in _chunks(received):
        waiting += data
        while (end := waiting.find(b"\n\n")) >= 0:
            event, waiting = waiting[:end], waiting[end + 2 :]
            if event.startswith(b"data:"):
                yield moment, event.removeprefix(b"data:").strip()


def _chunks(received: Received) -> Iterator[tuple[float, bytes]]:
    """Yield the chunks of a chunked body, each with the time of the read that completed it."""
    head, body = received.split()
    position, skipped = 0, len(head) + 4
    reads = iter(received.reads)
    moment, piece = next(reads)
    read = len(piece)
    while True:
        line = body.index(b"\r\n", position)
        size = int(body[position:line], 16)
        if not size:
            return
        position = line + 2 + size + 2
        while read < skipped + position - 2:
            moment, piece = next(reads)
            read += len(piece)
        yield moment, body[line + 2 : line + 2 + size]


def _header(head: bytes, name: str) -> str:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name.lower().encode():
            return value.strip().decode()
    return ""
