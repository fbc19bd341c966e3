"""A server of one side: a process group that is paused while others compute, and always ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from inference.errors import UnavailableError

_STOP_S: Final = 20
_POLL_S: Final = 0.5
# Runs in the child before it becomes the server: the kernel shall kill it when its parent dies
# (Linux only). A paused one must go too, hence SIGKILL; its group is continued by the kernel then.
_TETHER: Final = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerProcess:
    """A started server and its port."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.name: Final = name
        self.port: Final = port
        self._process: Final = process
        self._log: Final = log

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        port: int,
        environment: Mapping[str, str],
    ) -> ServerProcess:
        """Start `command`, which shall listen on `port`; what it says goes to a file in `folder`.

        Call it on the main thread: the kernel ties the child to the thread that makes it.
        """
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment},
                process_group=0,
            )
        return cls(name, process, port, log)

    @property
    def pid(self) -> int:
        """Return the process id, which is its group's too."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Say whether it has ended."""
        return self._process.poll() is not None

    def busy_s(self) -> float:
        """Return the processor time that the server took so far, in seconds (Linux only)."""
        # The clock of another process, as clock_getcpuclockid(3) makes it of the pid.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def wait_ready(self, path: str, seconds: float) -> None:
        """Wait until a GET of `path` is answered with 200. Raises `UnavailableError`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.ended:
                raise UnavailableError(f"{self.name} ended: {self._last_words()}")
            with suppress(httpx.HTTPError):
                url = f"http://127.0.0.1:{self.port}{path}"
                if httpx.get(url, timeout=5).status_code == 200:
                    return
            time.sleep(_POLL_S)
        self.stop()
        raise UnavailableError(f"{self.name} was not ready in {seconds:.0f} s")

    def pause(self) -> None:
        """Take the processors from it: some servers are busy also when nobody asks."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the whole group, kindly first."""
        self.resume()
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])[-400:] or "it said nothing"


def free_port() -> int:
    """Return a port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
