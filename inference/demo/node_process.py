"""A node as its operator runs it: `weightproof serve` in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from inference.errors import UnavailableError

# Loading waits for nothing but the processor; stopping for the calls in flight.
_STOP_S: Final = 60


class NodeProcess:
    """A running node: its address on the network and its key's address."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, Any]) -> None:
        self._process: Final = process
        self.url: Final = str(ready["url"])
        self.address: Final = str(ready["node"])

    @classmethod
    def start(cls, config: Path, *, log: Path) -> NodeProcess:
        """Start a node on a free port and wait until it sells. Raises `UnavailableError`."""
        command = [sys.executable, "-m", "inference", "serve", "--json", "--port", "0"]
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, "--config", str(config)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        line = process.stdout.readline() if process.stdout else ""
        try:
            return cls(process, json.loads(line))
        except ValueError as error:
            with process:
                process.kill()
            last = log.read_text().strip().splitlines()[-1:] or ["it said nothing"]
            raise UnavailableError(f"the node did not start: {last[0]}") from error

    def stop(self) -> int:
        """End it in order; return its exit status."""
        with self._process as process:
            process.terminate()
            try:
                return process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
