"""A way to a PostgreSQL server that can be cut: at once, or in the middle of a COMMIT."""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType


class SeveredWay:
    """Listens on a port of its own and passes everything on to the server's socket.

    `at_commit` cuts the next COMMIT: "before" the server hears it, or "after" it has answered.
    While `closed`, nobody gets through.
    """

    def __init__(self, folder: Path) -> None:
        self._server = f"{folder}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.at_commit = ""
        self.closed = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._listener.getsockname()[1]}/{name}"

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            for end in self._open:
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> SeveredWay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.closed:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server)
            thread = threading.Thread(target=self._serve, args=(client, server))
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        ends = {client, server}
        with self._lock:
            self._open |= ends
        with suppress(OSError):
            while self._pass(client, server):
                pass
        with self._lock:
            self._open -= ends
            for end in ends:
                end.close()

    def _pass(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass one piece on; False when the connection ends with it."""
        [source, *_], _, _ = select.select([client, server], [], [])
        data = source.recv(65536)
        if not data:
            return False
        cut = ""
        if source is client and data.endswith(b"COMMIT\0"):
            cut, self.at_commit = self.at_commit, ""
        if cut == "before":
            return False
        (server if source is client else client).sendall(data)
        if cut == "after":
            server.recv(65536)  # the answer, which the client will not hear
            return False
        return True
