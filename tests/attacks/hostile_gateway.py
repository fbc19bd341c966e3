"""A trustless gateway on loopback that serves a store's blocks, and lies about some of them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from registry.errors import BlockError
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import Cid
from registry.workspace import Workspace, open_blocks
from tests.attacks.hall import Hall

_MIB = 1 << 20
# Seconds that a reader waits for one block here; a slow gateway must not take longer.
TIMEOUT_S = 1


class GatewayHandler(BaseHTTPRequestHandler):
    """Answers `/ipfs/<cid>?format=raw`; what it does for a block is in `lies` or right."""

    protocol_version = "HTTP/1.1"
    server: _Gateway

    def do_GET(self) -> None:
        name = self.path.removeprefix("/ipfs/").partition("?")[0]
        self.server.asked.append(name)
        try:
            data = self.server.blocks.get(Cid.parse(name))
        except BlockError:
            self.reply(b"not here", 404)
            return
        lie = self.server.lies.get(name)
        if lie is None:
            self.reply(data)
        else:
            lie(self, data)

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/vnd.ipld.raw", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def begin(self, *lines: str) -> None:
        self.wfile.write("\r\n".join(("HTTP/1.1 200 OK", *lines, "", "")).encode())

    def for_ever(self, piece: bytes, pause_s: float = 0.0) -> None:
        while not self.server.over.wait(pause_s):
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


Lie = Callable[[GatewayHandler, bytes], object]


class _Gateway(ThreadingHTTPServer):
    # Handlers that never end by themselves end with `over`; nobody waits for them.
    block_on_close = False
    daemon_threads = True

    def __init__(self, blocks: BlockStore, lies: Mapping[str, Lie]) -> None:
        super().__init__(("127.0.0.1", 0), GatewayHandler)
        self.blocks = blocks
        self.lies = lies
        self.asked: list[str] = []
        self.over = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what these tests are about."""


def html(handler: GatewayHandler, _data: bytes) -> None:
    page = b"<!doctype html><title>200 OK</title><p>Your file is being prepared."
    handler.reply(page, Content_Type="text/html")


def html_as_a_block(handler: GatewayHandler, _data: bytes) -> None:
    handler.reply(b"<!doctype html><title>200 OK</title>")


def nothing(handler: GatewayHandler, _data: bytes) -> None:
    handler.reply(b"")


def other_bytes(handler: GatewayHandler, data: bytes) -> None:
    handler.reply(data[:-1] + bytes([data[-1] ^ 1]))


def one_byte_more(handler: GatewayHandler, data: bytes) -> None:
    handler.reply(data + b"\0")


def one_byte_less(handler: GatewayHandler, data: bytes) -> None:
    handler.reply(data[:-1])


def cut_off(handler: GatewayHandler, data: bytes) -> None:
    """Promise the whole block, and hang up in the middle of it."""
    handler.begin(f"Content-Length: {len(data)}")
    handler.wfile.write(data[: len(data) // 2])
    handler.close_connection = True


def endless(handler: GatewayHandler, _data: bytes) -> None:
    handler.begin()
    handler.for_ever(bytes(_MIB))


def endless_chunks(handler: GatewayHandler, _data: bytes) -> None:
    handler.begin("Transfer-Encoding: chunked")
    handler.for_ever(b"100000\r\n" + bytes(_MIB) + b"\r\n")


def endless_headers(handler: GatewayHandler, _data: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.for_ever(b"X-More: " + b"x" * 1000 + b"\r\n")


def slow(handler: GatewayHandler, data: bytes) -> None:
    handler.begin(f"Content-Length: {len(data)}")
    handler.for_ever(b"x", pause_s=0.05)


def slow_headers(handler: GatewayHandler, _data: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    handler.for_ever(b"x", pause_s=0.05)


def silent(handler: GatewayHandler, _data: bytes) -> None:
    handler.server.over.wait()


def gzip_bomb(handler: GatewayHandler, _data: bytes) -> None:
    """A gigabyte of zeros in a megabyte: a thousand members, as the format allows."""
    handler.reply(gzip.compress(bytes(_MIB)) * 1024, Content_Encoding="gzip")


def compressed(handler: GatewayHandler, data: bytes) -> None:
    """The right block, compressed although nobody asked for that."""
    handler.reply(gzip.compress(data), Content_Encoding="gzip")


def redirect(handler: GatewayHandler, _data: bytes) -> None:
    handler.reply(b"", 302, Location="http://127.0.0.1:1/elsewhere")


def failure(handler: GatewayHandler, _data: bytes) -> None:
    handler.reply(b"out of order \x1b[2J", 500)


@contextmanager
def gateway(blocks: BlockStore, lies: Mapping[str, Lie]) -> Iterator[tuple[str, list[str]]]:
    """Serve `blocks` with lies by CID; yield the origin and the list of what was asked."""
    with _Gateway(blocks, lies) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.asked
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


def behind(hall: Hall, store: Path, *gateways: str) -> Hall:
    """Return the hall of somebody who has an empty store and reads from gateways."""
    config = hall.workspace.config
    settings = replace(config.store, folder=store, gateways=gateways, timeout_s=TIMEOUT_S)
    config = replace(config, store=settings)
    space: Workspace = replace(hall.workspace, config=config, blocks=open_blocks(config))
    return replace(hall, workspace=space)
