"""A devnet: one Anvil process that lives exactly as long as it should.

It takes a free port of its own choice (a fixed port that is taken would leave us talking to
somebody else's node), and the kernel ends it when this process dies, however it dies.
"""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from registry.chain.anvil_binary import find
from registry.chain.connection import Chain
from registry.errors import ChainUnreachableError
from registry.signing.signer import ANVIL_CHAIN_ID

_LISTENING: Final = re.compile(r"^Listening on 127\.0\.0\.1:(\d+)$")
# Anvil is up in a tenth of a second; a loaded machine may take a hundred times that.
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 10.0
# SIGKILL must not lose more than this much of a devnet that keeps its state in a file.
_STATE_INTERVAL_S: Final = 1
# Runs in the child before it becomes Anvil: ask for SIGTERM when the parent dies (Linux only),
# and leave at once if it died before the question. A Python function between fork and exec
# would not be safe in a process with threads, hence this small program.
_TETHER: Final = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Devnet:
    """A running Anvil with chain id 31337. Use it as a context manager, or call `stop`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process: Final = process
        self.port: Final = port
        self.rpc_url: Final = f"http://127.0.0.1:{port}"
        self.chain: Final = Chain(self.rpc_url, chain_id=ANVIL_CHAIN_ID)

    @classmethod
    def start(
        cls,
        *,
        state: Path | None = None,
        port: int = 0,
        block_time: int | None = None,
        slots_in_epoch: int = 1,
    ) -> Devnet:
        """Start Anvil and wait until it listens.

        `state`: a file the chain is read from and kept in. `block_time`: seconds between blocks,
        or a block for each transaction. A block is final when 2 × `slots_in_epoch` lie on it.
        Raises `ConfigError` when Anvil is not installed, `ChainUnreachableError` when it ends.
        """
        command = [str(find()), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--chain-id", str(ANVIL_CHAIN_ID), "--slots-in-an-epoch", str(slots_in_epoch)]
        if state is not None:
            command += ["--state", str(state), "--state-interval", str(_STATE_INTERVAL_S)]
        if block_time is not None:
            command += ["--block-time", str(block_time)]
        process, found = _spawn(command)
        try:
            return cls(process, _port(process, found))
        except ChainUnreachableError:
            _end(process)
            raise

    def stop(self) -> None:
        """End Anvil, letting it write its state; nothing happens when it has ended."""
        _end(self._process)

    def __enter__(self) -> Devnet:
        """Hand out the running devnet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks, for finality."""
        self.chain.rpc("anvil_mine", hex(blocks))

    def pass_time(self, seconds: int) -> None:
        """Move the chain's clock forward and mine a block at the new time."""
        self.chain.rpc("evm_increaseTime", hex(seconds))
        self.mine()

    def snapshot(self) -> Any:
        """Remember the chain's whole state; give the answer to `revert` once."""
        return self.chain.rpc("evm_snapshot")

    def revert(self, snapshot: Any) -> None:
        """Go back to a snapshot, which is used up by it. The clock shows real time again.

        Anvil by itself would go on from the moment of the snapshot, so that every revert would
        leave the chain further behind the receipts that are dated beside it.
        """
        self.chain.rpc("evm_revert", snapshot)
        self.chain.rpc("evm_setTime", max(int(time.time()), self.chain.head().timestamp))

    def set_code(self, address: str, code: bytes) -> None:
        """Put runtime code at an address."""
        set_code(self.chain, address, code)


def set_code(chain: Chain, address: str, code: bytes) -> None:
    """Put runtime code at an address of an Anvil chain."""
    chain.rpc("anvil_setCode", address, f"0x{code.hex()}")


def _spawn(command: list[str]) -> tuple[subprocess.Popen[str], queue.Queue[int | None]]:
    # The kernel ties the child to the *thread* that made it. This thread reads the child's
    # output until it ends, so it lives as long, whichever thread asked for a devnet.
    made: queue.Queue[subprocess.Popen[str]] = queue.Queue()
    found: queue.Queue[int | None] = queue.Queue()

    def tend() -> None:
        with subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            made.put(process)
            for line in process.stdout or ():
                match = _LISTENING.match(line.rstrip())
                if match:
                    found.put(int(match[1]))
        found.put(None)

    threading.Thread(target=tend, name="anvil", daemon=True).start()
    return made.get(timeout=_START_TIMEOUT_S), found


def _port(process: subprocess.Popen[str], found: queue.Queue[int | None]) -> int:
    try:
        port = found.get(timeout=_START_TIMEOUT_S)
    except queue.Empty:
        port = None
    if port is None:
        raise ChainUnreachableError(
            f"Anvil did not start (exit status {process.poll()})",
            hint="is the port taken, or the state file from another version?",
        )
    return port


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
