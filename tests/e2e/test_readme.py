"""The README is code: its commands are run as a newcomer would run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.inference import tiny_models

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()


class Shell:
    """Runs blocks in a folder; what serves goes on in the background."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._servers: list[subprocess.Popen[str]] = []
        self._environment = {
            **os.environ,
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        }

    def run(self, block: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, block: str, ready: str) -> str:
        """Start a server and return the line that says it is ready."""
        log = self._folder / f"server-{len(self._servers)}.log"
        with log.open("w") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {block.strip()}"],
                cwd=self._folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._servers.append(server)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            if found := re.search(ready, log.read_text()):
                return found.group(0)
            time.sleep(0.2)
        raise AssertionError(log.read_text())

    def set(self, name: str, value: str) -> None:
        self._environment[name] = value

    def close(self) -> None:
        for server in reversed(self._servers):
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def test_a_newcomer_sells_and_buys_as_the_readme_says(tmp_path: Path, shell: Shell) -> None:
    tiny_models.llama(tmp_path / "my-model", context=1024)
    _, *walk = BLOCKS
    for block in walk:
        if block.startswith("weightproof devnet"):
            shell.serve(block, r"devnet is running")
        elif block.startswith("weightproof serve"):
            url = shell.serve(f"{block.strip()} --port 0", r"http://127\.0\.0\.1:\d+")
            shell.set("WEIGHTPROOF_NODE_URL", url)
        else:
            shell.run(block)
    assert (tmp_path / "receipt.json").exists()
    assert len(walk) == 7
