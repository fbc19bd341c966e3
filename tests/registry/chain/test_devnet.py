from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from registry.chain import anvil_binary
from registry.chain.connection import Chain
from registry.chain.deploy import check, deploy
from registry.chain.devnet import Devnet
from registry.errors import ChainUnreachableError, ConfigError
from registry.signing.signer import Signer

_ORPHAN = """
import os, signal
from registry.chain.devnet import Devnet
devnet = Devnet.start()
print(devnet.port, flush=True)
signal.pause()
"""


def test_without_anvil_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        anvil_binary.find([tmp_path], search_path=str(tmp_path))
    assert "npm ci" in caught.value.hint


def test_a_port_that_is_taken_is_an_error_and_not_somebody_elses_chain(devnet: Devnet) -> None:
    with pytest.raises(ChainUnreachableError, match="did not start"):
        Devnet.start(port=devnet.port)


def test_a_state_file_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    state.write_text("{nonsense")
    with pytest.raises(ChainUnreachableError, match="did not start"):
        Devnet.start(state=state)


def test_anvil_on_the_path_is_found(tmp_path: Path) -> None:
    program = tmp_path / "anvil"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert anvil_binary.find([tmp_path], search_path=str(tmp_path)) == program


def test_a_devnet_dies_with_its_parent_however_that_dies() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _ORPHAN], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    with parent:
        port = int(parent.stdout.readline())
        Chain(f"http://127.0.0.1:{port}").head()
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(100):
        try:
            Chain(f"http://127.0.0.1:{port}", 0.5).head()
        except ChainUnreachableError:
            return
        time.sleep(0.05)
    pytest.fail("Anvil outlived the process that started it")


def test_a_devnet_outlives_the_thread_that_started_it() -> None:
    started: list[Devnet] = []
    thread = threading.Thread(target=lambda: started.append(Devnet.start()))
    thread.start()
    thread.join()
    time.sleep(0.3)
    with started[0] as devnet:
        assert devnet.chain.head().number == 0


def test_a_devnet_keeps_its_state_in_a_file(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    with Devnet.start(state=state) as first:
        deployment = deploy(first.chain, Signer.anvil(0, chain_id=31337))
        head = first.chain.head().number
    with Devnet.start(state=state) as second:
        check(second.chain, deployment)
        assert second.chain.head().number == head


def test_a_stopped_devnet_answers_no_more_and_may_be_stopped_again() -> None:
    devnet = Devnet.start()
    devnet.stop()
    devnet.stop()
    with pytest.raises(ChainUnreachableError):
        devnet.chain.head()


def test_time_passes_as_told(restored: Devnet) -> None:
    before = restored.chain.head().timestamp
    restored.pass_time(86_400)
    assert restored.chain.head().timestamp >= before + 86_400


def test_a_snapshot_brings_everything_back(restored: Devnet) -> None:
    head = restored.chain.head()
    snapshot = restored.snapshot()
    restored.mine(3)
    restored.revert(snapshot)
    assert restored.chain.head() == head


def test_after_a_revert_the_clock_shows_real_time_again(restored: Devnet) -> None:
    snapshot = restored.snapshot()
    time.sleep(3)
    restored.revert(snapshot)
    now = int(time.time())
    restored.mine()
    assert restored.chain.head().timestamp >= now - 1


def test_blocks_come_by_themselves_with_a_block_time() -> None:
    with Devnet.start(block_time=1) as devnet:
        deadline = time.monotonic() + 10
        while devnet.chain.head().number == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
