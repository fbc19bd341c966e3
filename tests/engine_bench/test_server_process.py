"""Servers of the bench: refused with their last words, paused, and ended in every state."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from engine_bench.server_process import ServerProcess, free_port

from inference.errors import UnavailableError

SERVER = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]


def started(folder: Path, *command: str) -> ServerProcess:
    port = free_port()
    full = [*(command or SERVER), *(() if command else (str(port),))]
    return ServerProcess.start("side", full, folder=folder, port=port, environment={})


def test_a_server_that_ends_at_once_is_refused_with_its_last_words(tmp_path: Path) -> None:
    process = started(tmp_path, sys.executable, "-c", "raise SystemExit('no such model')")
    with pytest.raises(UnavailableError, match="no such model"):
        process.wait_ready("/", 30)


def test_a_server_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    process = started(tmp_path, sys.executable, "-c", "import time; time.sleep(600)")
    with pytest.raises(UnavailableError, match="not ready"):
        process.wait_ready("/", 0.2)
    assert process.ended


def test_a_paused_server_does_not_answer_and_is_ended_all_the_same(tmp_path: Path) -> None:
    process = started(tmp_path)
    try:
        process.wait_ready("/", 60)
        process.pause()
        with pytest.raises(httpx.TimeoutException):
            httpx.get(f"http://127.0.0.1:{process.port}/", timeout=0.5)
        process.resume()
        assert httpx.get(f"http://127.0.0.1:{process.port}/", timeout=30).status_code == 200
        process.pause()
    finally:
        process.stop()
    assert process.ended


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_paused_server_does_not_outlive_a_bench_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, "scripts")
from engine_bench.server_process import ServerProcess
process = ServerProcess.start(
    "side", [sys.executable, "-c", "import time; time.sleep(600)"],
    folder=Path({str(tmp_path)!r}), port=1, environment={{}},
)
time.sleep(1)
process.pause()
print(process.pid, flush=True)
time.sleep(600)
"""
    root = Path(__file__).parent.parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root
    ) as bench:
        pid = int(bench.stdout.readline()) if bench.stdout else 0
        bench.kill()
    deadline = time.monotonic() + 30
    while _runs(pid):
        assert time.monotonic() < deadline, "the server outlived its bench"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A killed process whose new parent has not asked for it yet is a zombie.
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
