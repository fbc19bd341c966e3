"""A real HTTP server on a port of its own that answers an RPC client as badly as it is told."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler, dict[str, object]], None]


@contextmanager
def rpc_server(answer: Answer) -> Iterator[str]:
    """Serve `answer` and yield the server's address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            question = self.rfile.read(length)
            # Who was killed while it asked gets no answer.
            if len(question) == length:
                with suppress(ConnectionError):
                    answer(self, json.loads(question))

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def body(data: bytes, *, status: int = 200, **headers: str) -> Answer:
    """Answer every question with the same bytes."""

    def answer(handler: BaseHTTPRequestHandler, question: dict[str, object]) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def result(value: object) -> Answer:
    """Answer every question with the same JSON-RPC result."""
    return body(json.dumps({"jsonrpc": "2.0", "id": 1, "result": value}).encode())


def error(message: str, code: int = -32000) -> Answer:
    """Answer every question with the same JSON-RPC error."""
    refusal = {"code": code, "message": message}
    return body(json.dumps({"jsonrpc": "2.0", "id": 1, "error": refusal}).encode())


def pass_on(rpc_url: str, question: dict[str, object]) -> bytes:
    """Ask the endpoint behind, and return its answer's bytes."""
    request = urllib.request.Request(
        rpc_url, json.dumps(question).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())
