"""A real PostgreSQL server for tests, which lives exactly as long as it should.

It listens on a socket in a folder of its own, so it needs no port, and the kernel ends it when
the process that started it dies. It never runs as root: the account its package made is used then.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psycopg

_ACCOUNT = "postgres"
_READY = "ready to accept connections"
# Becomes the other user, asks for SIGQUIT when the parent dies, then becomes the server.
_TETHER = """
import ctypes, os, signal, sys
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[2]))
ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""


class PostgresServer:
    """A running server; every test gets a database of its own."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self.process = process
        self._numbers = itertools.count()
        self._threads = threading.Thread(target=_drain, args=(process.stderr,), daemon=True)
        self._threads.start()

    def url(self, name: str) -> str:
        return f"postgresql://{_ACCOUNT}@/{name}?host={self.folder}"

    def create(self) -> str:
        """Make an empty database; return its address."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        self.run(f"DROP DATABASE {name_in(url)} WITH (FORCE)")

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the server's owner, outside any transaction."""
        with psycopg.connect(
            host=str(self.folder), user=_ACCOUNT, dbname=database, autocommit=True
        ) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def stop(self) -> None:
        with self.process as process:
            process.send_signal(signal.SIGQUIT)
            process.wait(30)


def name_in(url: str) -> str:
    """Return the name of the database that an address leads to."""
    return url.split("@/")[1].split("?")[0]


def binaries() -> Path | None:
    """Return the folder of the newest installed server's programs, None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def started() -> Iterator[PostgresServer]:
    """Start a server in a folder of its own, and take both away afterwards."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        user, group = _owner()
        os.chown(folder, user, group)
        data, owner = folder / "data", [str(user), str(group)]
        subprocess.run(
            [
                *[sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *owner],
                *[str(programs / "initdb"), "-D", str(data), "-U", _ACCOUNT, "-A", "trust"],
                *["--no-sync", "-E", "UTF8", "--locale=C.UTF-8"],
            ],
            check=True,
            capture_output=True,
        )
        settings = {
            "unix_socket_directories": folder,
            "listen_addresses": "",
            # The tests kill processes, never the machine.
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            "max_connections": 60,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = subprocess.Popen(
            [
                *[sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *owner],
                *[str(programs / "postgres"), "-D", str(data), *options],
            ],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if _READY in line:
                break
        else:
            raise AssertionError("".join(said))
        server = PostgresServer(folder, process)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> tuple[int, int]:
    if os.getuid():
        return os.getuid(), os.getgid()
    account = pwd.getpwnam(_ACCOUNT)
    return account.pw_uid, account.pw_gid


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.parent.parent.name.split(".") if part.isdigit())


def _drain(stream: IO[str] | None) -> None:
    for _ in stream or ():
        pass
