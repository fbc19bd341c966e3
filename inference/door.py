"""The door: what a connection may cost before it has asked for anything.

A server that waits politely can be made to wait for ever: by heads and bodies that come in drips
(slow loris), by heads without an end, by thousands of connections that say nothing. So each
connection has a deadline for its head, a limit on its size, and each address a number of
connections. Who is over a limit is answered 408, 431 or 503 and shown out; nobody else waits.

The deadline for bodies is in `api/body`, since only a route knows whether it wants one.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import Counter
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from inference.door_config import DoorConfig

# File descriptors kept for the database, models, the chain and the operator.
_OWN_FILES: Final = 256
_REASONS: Final = {
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
_HEAD_END: Final = b"\r\n\r\n"


class Door:
    """Counts who is inside. One for a server; used from its event loop only."""

    def __init__(self, limits: DoorConfig) -> None:
        self.limits: Final = limits
        self._room: Final = min(limits.max_connections, _file_room())
        self._inside: Final[Counter[str]] = Counter()

    def enter(self, address: str) -> bool:
        """Let a connection in, or say that there is no room for it."""
        if self._inside.total() >= self._room:
            return False
        if self._inside[address] >= self.limits.max_connections_per_address:
            return False
        self._inside[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count one that went."""
        self._inside[address] -= 1
        if not self._inside[address]:
            del self._inside[address]


def guarded(door: Door) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol class with the door in front of it."""

    class Guarded(_Guarded):
        _door = door

    return Guarded


# uvicorn chooses the class by what is installed; both kinds keep their request in `cycle`.
class _Guarded(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    _door: Door
    _address = ""
    _entered = False
    _head_bytes = 0
    _ahead_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._address = _network(transport.get_extra_info("peername"))
        self._entered = self._door.enter(self._address)
        if self._entered:
            self._arm()
        else:
            self._show_out(503)

    def connection_lost(self, error: Exception | None) -> None:
        self._disarm()
        if self._entered:
            self._entered = False
            self._door.leave(self._address)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_in_head():
            end = data.find(_HEAD_END)
            self._head_bytes += len(data) if end < 0 else end
            if self._head_bytes > self._door.limits.max_header_bytes and not self._is_answered():
                self._show_out(431)
                return
            self._arm()
        elif not self.cycle.more_body:
            # The next request, before this one is answered: uvicorn would keep all of it.
            self._ahead_bytes += len(data)
            if self._ahead_bytes > self._door.limits.max_header_bytes:
                self.flow.pause_reading()
        super().data_received(data)
        if not self._is_in_head():
            self._head_bytes = 0
            self._disarm()

    def on_response_complete(self) -> None:
        self._ahead_bytes = 0
        super().on_response_complete()  # reads on, if that was paused
        # What was in the buffer already may be the next request, whole or in part.
        if not self._is_in_head():
            self._head_bytes = 0

    def _is_in_head(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _is_answered(self) -> bool:
        """Say whether what arrives is the rest of a body that nobody wanted to read."""
        return self.cycle is not None and bool(self.cycle.more_body)

    def _arm(self) -> None:
        if self._deadline is None:
            wait = self._door.limits.header_timeout_s
            self._deadline = self.loop.call_later(wait, self._show_out, 408)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _show_out(self, status: int) -> None:
        """Answer in one line and close; without a word if this request was answered before."""
        self._disarm()
        if self.transport.is_closing():
            return
        if not self._is_answered():
            head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
            self.transport.write(f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
        self.transport.close()


def _network(peer: Any) -> str:
    """Return whom to count: an IPv4 address, or the /64 that one IPv6 customer gets."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    try:
        address = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return host
    return host if address.version == 4 else address.exploded[:19]


def _file_room() -> int:
    """Return how many connections the system gives this process, once it gives all it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(1, soft - _OWN_FILES) if soft != resource.RLIM_INFINITY else 1 << 30
