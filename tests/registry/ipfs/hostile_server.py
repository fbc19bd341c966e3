"""A real HTTP server on loopback that misbehaves in a chosen way, or the way its path asks for."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

BLOCK = b"hello world"
_MIB = bytes(1 << 20)


class _Server(ThreadingHTTPServer):
    # Handlers that drip bytes end with `over`; nobody waits for them.
    block_on_close = False

    def __init__(self, behaviour: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviour = behaviour
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        behaviour = self.server.behaviour or self.path.split("/")[1]
        getattr(self, f"_{behaviour}")()

    def do_POST(self) -> None:
        while (length := int(self.rfile.readline(), 16)) or self.rfile.readline() != b"\r\n":
            self.rfile.read(length + 2)
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _good(self) -> None:
        assert self.headers["Accept-Encoding"] == "identity"
        self._reply(BLOCK, Content_Type="application/vnd.ipld.raw")

    def _html(self) -> None:
        self._reply(b"<html>Welcome</html>", Content_Type="text/html")

    def _json(self) -> None:
        self._reply(b'["not", "an", "object"]', Content_Type="application/json")

    def _renamed(self) -> None:
        self._reply(b'{"Key": "bafkqaaa", "Size": 1}', Content_Type="application/json")

    def _empty(self) -> None:
        self._reply(b"")

    def _absent(self) -> None:
        self._reply(b"no", 404)

    def _broken(self) -> None:
        self._reply(b'{"Message": "out of order \\u001b[2J"}', 500)

    def _redirect(self) -> None:
        self._reply(b"", 302, Location="/good/")

    def _gzip(self) -> None:
        """A gigabyte of zeros in a megabyte: a thousand members, as the format allows."""
        self._reply(gzip.compress(_MIB) * 1024, Content_Encoding="gzip")

    def _zipped(self) -> None:
        """The right block, but compressed although nobody asked for that."""
        self._reply(gzip.compress(BLOCK), Content_Encoding="gzip")

    def _endless(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not self.server.over.is_set():
            self.wfile.write(_MIB)

    def _declared(self) -> None:
        """One chunk that claims to be huge."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n")
        while not self.server.over.is_set():
            self.wfile.write(_MIB)

    def _slow(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        self._drip()

    def _slowheaders(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._drip()

    def _silent(self) -> None:
        self.server.over.wait()

    def _hangup(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello")
        self.close_connection = True

    def _drip(self) -> None:
        # Each byte comes well within any timeout that begins anew with each byte.
        while not self.server.over.wait(0.05):
            self.wfile.write(b"x")


@contextmanager
def misbehaving(behaviour: str = "") -> Iterator[str]:
    """Run a server and yield its origin, `http://127.0.0.1:N`."""
    with _Server(behaviour) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    """The origin of a server whose behaviour is the first component of the path."""
    with misbehaving() as origin:
        yield origin
