"""HTTP with strangers: every exchange ends by a deadline and brings no more bytes than allowed.

The deadline covers connecting, TLS, headers and body together: a peer that sends one byte a
minute gains nothing. (Looking up a name is left to the system and its limits.) Nothing is
decompressed and no redirect is followed.
"""

from __future__ import annotations

import ssl
import time
import weakref
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import httpcore

from registry.errors import BlockStoreError

_deadline: ContextVar[float] = ContextVar("deadline")


class ExchangeError(BlockStoreError):
    """An HTTP exchange failed: no connection, broken protocol, connection lost."""


class ExchangeTimeoutError(ExchangeError):
    """The peer accepted the connection, and its answer did not end in time."""


class ExchangeTooLargeError(ExchangeError):
    """The answer has more bytes than allowed."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A status code, headers in lower case, and the whole body as it came over the wire."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BoundedHttp:
    """A pool of connections whose every exchange is bounded. Safe between threads."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=16,
            keepalive_expiry=30,
            network_backend=_Backend(),
        )
        self.close = weakref.finalize(self, self._pool.close)

    def exchange(
        self,
        method: str,
        url: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
    ) -> Reply:
        """Send a request and return the whole reply, whatever its status.

        Raises `ExchangeError`, or its subclass for a late or a too large reply.
        """
        token = _deadline.set(time.monotonic() + self.timeout_s)
        wanted = {"Accept-Encoding": "identity", **(headers or {})}
        try:
            try:
                return self._once(method, url, wanted, content, max_bytes)
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
                # A kept connection may have been closed by the peer meanwhile; a fresh one says.
                return self._once(method, url, wanted, content, max_bytes)
        except (httpcore.ReadTimeout, httpcore.WriteTimeout) as error:
            raise ExchangeTimeoutError(f"{url}: no answer within {self.timeout_s} s") from error
        except (
            httpcore.TimeoutException,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.UnsupportedProtocol,
        ) as error:
            reason = str(error) or type(error).__name__
            raise ExchangeError(
                f"{url}: {reason}", hint="Check the address and that the peer is running."
            ) from error
        finally:
            _deadline.reset(token)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, max_bytes: int
    ) -> Reply:
        with self._pool.stream(
            method,
            url,
            headers=list(headers.items()),
            content=content,
            # Waiting for a free connection; all other waits are the stream's own.
            extensions={"timeout": {"pool": self.timeout_s}},
        ) as response:
            body = bytearray()
            for part in response.iter_stream():
                body += part
                if len(body) > max_bytes:
                    raise ExchangeTooLargeError(f"{url}: more than {max_bytes} bytes came")
            named = {name.decode("latin-1"): value for name, value in response.headers}
            lower = {name.lower(): value.decode("latin-1") for name, value in named.items()}
            return Reply(response.status, lower, bytes(body))


def _left() -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("deadline")
    return left


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the exchange it serves."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, timeout=_left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout=_left())

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout=_left()))

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.SyncBackend):
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return _Stream(
            super().connect_tcp(
                host,
                port,
                timeout=_left(),
                local_address=local_address,
                socket_options=socket_options,
            )
        )
