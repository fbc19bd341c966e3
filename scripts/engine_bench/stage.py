"""Starts the sides that are asked for, one after the other, and ends them whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine_bench.market import NAME, Market
from engine_bench.server_process import ServerProcess, free_port
from engine_bench.sides import CHAT, HttpSide, InProcessSide, Side
from engine_bench.stream import Connection
from engine_bench.wallet import Wallet
from inference.errors import UnavailableError
from registry.chain.dev_usd import ONE

OURS: Final = ("ours", "paid", "in_process", "exact")
TRANSFORMERS: Final = ("transformers", "transformers_batching")
PEERS: Final = ("vllm", *TRANSFORMERS)
_SCRIPTS: Final = Path(__file__).resolve().parent.parent
# Seconds. vLLM compiles for minutes on a slow processor.
_OURS_READY_S: Final = 300
_PEER_READY_S: Final = 1200
# What a channel is opened with; 32 of them must not use up what the devnet's payer has.
_DEPOSIT: Final = 20 * ONE
# Peers must neither look for models on the network nor tell anybody that they run.
_SILENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # Ours is none of theirs.
    "PYTHONPATH": "",
}
_POOL: Final = ("--cb-num-blocks", "256", "--cb-block-size", "32", "--cb-max-batch-tokens", "2048")


@dataclass(frozen=True)
class Plan:
    """Which sides, and with what. A peer without a Python of its own is left out.

    `vllm_bind` is its VLLM_CPU_OMP_THREADS_BIND; `workers` the highest concurrency.
    """

    sides: tuple[str, ...]
    workers: int
    max_tokens: int
    vllm_python: Path | None
    vllm_bind: str
    transformers_python: Path | None


@dataclass(frozen=True)
class Stage:
    """The sides that stand, by name, why others do not, and the peers' versions."""

    sides: Mapping[str, Side]
    skipped: Mapping[str, str]
    versions: Mapping[str, str]


@contextmanager
def set_up(market: Market, plan: Plan, made: Path, say: Callable[[str], None]) -> Iterator[Stage]:
    """Start each side's server, wait until it is ready, and pause it."""
    sides: dict[str, Side] = {}
    skipped: dict[str, str] = {}
    versions: dict[str, str] = {}
    with ExitStack() as stack:

        def start(
            name: str, command: Sequence[str], environment: Mapping[str, str]
        ) -> ServerProcess:
            say(f"starting {name}")
            port = free_port()
            full = [*command, "--port", str(port)]
            process = ServerProcess.start(
                name, full, folder=made, port=port, environment=environment
            )
            stack.callback(process.stop)
            return process

        for name in PEERS:
            if name in plan.sides:
                try:
                    python = _python(name, plan)
                    versions[name] = _version(python, name)
                    sides[name] = _peer(name, python, market, plan, start)
                except UnavailableError as error:
                    skipped[name] = error.message
                    say(f"{name} is left out: {error.message}")
        sides |= _ours(market, plan, start)
        # In the order of the plan, which is that of their turns.
        ordered = {name: sides[name] for name in plan.sides if name in sides}
        yield Stage(ordered, skipped, versions)


_Start = Callable[[str, Sequence[str], Mapping[str, str]], ServerProcess]


def _ours(market: Market, plan: Plan, start: _Start) -> dict[str, Side]:
    sides: dict[str, Side] = {}
    settings = ["--config", str(market.settings)]
    paths = [str(_SCRIPTS), str(_SCRIPTS.parent), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if {"ours", "in_process", "exact"} & set(plan.sides):
        command = [sys.executable, "-m", "engine_bench.unpaid_node", *settings]
        unpaid = start("ours", command, environment)
        unpaid.wait_ready("/v1/models", _OURS_READY_S)
        unpaid.pause()
        sides["ours"] = HttpSide(unpaid, NAME, plan.max_tokens)
        sides["in_process"] = InProcessSide(unpaid, plan.max_tokens)
        sides["exact"] = InProcessSide(unpaid, plan.max_tokens, exact=True)
    if "paid" in plan.sides:
        command = [sys.executable, "-m", "inference", "serve", "--json", *settings]
        node = start("paid", command, environment)
        node.wait_ready("/v1/models", _OURS_READY_S)
        sides["paid"] = HttpSide(node, NAME, plan.max_tokens)
    return sides


async def open_channels(side: HttpSide, market: Market, workers: int) -> HttpSide:
    """Return the paid side with a funded channel for each worker: one call each pays it in."""
    registry = market.config.registry
    key = registry.keys.signer("payer", chain_id=registry.contracts.chain_id)
    body = side.body("Say a word.")
    connection = await Connection.open(side.process.port)
    try:
        demand = await connection.post(CHAT, body, {})
        wallets = [Wallet(key, registry.contracts, demand, number=n) for n in range(workers)]
        for wallet in wallets:
            wallet.book(await connection.post(CHAT, body, wallet.headers(deposit=_DEPOSIT)))
    finally:
        connection.close()
    return HttpSide(side.process, side.model, side.max_tokens, wallets=wallets)


def _python(name: str, plan: Plan) -> Path:
    """Return the Python of a peer. Raises `UnavailableError` when there is none."""
    python = plan.vllm_python if name == "vllm" else plan.transformers_python
    if python is None:
        raise UnavailableError(f"no --{name.partition('_')[0]}-python was given")
    if not python.is_file():
        raise UnavailableError(f"there is no {python.name} at the path that was given")
    # Not resolved: an environment is found by where its link lies.
    return python.absolute()


def _version(python: Path, name: str) -> str:
    """Return the version of a peer's package. Raises `UnavailableError` when it has none."""
    package = "vllm-cpu" if name == "vllm" else "transformers"
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{package} is not installed there")
    return done.stdout.strip()


def _peer(name: str, python: Path, market: Market, plan: Plan, start: _Start) -> Side:
    if name == "vllm":
        return _vllm(python, market, plan, start)
    return _transformers(python, market, plan, start, batching=name != "transformers")


def _vllm(python: Path, market: Market, plan: Plan, start: _Start) -> Side:
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(market.folder), "--served-model-name", NAME]
    command += ["--dtype", market.torch_dtype, "--host", "127.0.0.1"]
    command += ["--max-num-seqs", str(max(32, plan.workers)), "--max-model-len", "2048"]
    environment = {
        **_SILENT,
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_OMP_THREADS_BIND": plan.vllm_bind,
    }
    # Its manual asks for Intel's OpenMP to be loaded first; the wheel brings it.
    openmp = python.parent.parent / "lib" / "libiomp5.so"
    if openmp.exists():
        environment["LD_PRELOAD"] = str(openmp)
    process = start("vllm", command, environment)
    process.wait_ready("/health", _PEER_READY_S)
    process.pause()
    return HttpSide(process, NAME, plan.max_tokens, extra={"ignore_eos": True})


def _transformers(
    python: Path, market: Market, plan: Plan, start: _Start, *, batching: bool
) -> Side:
    command = [str(python.with_name("transformers")), "serve", str(market.folder)]
    command += ["--device", "cpu", "--dtype", market.torch_dtype, "--host", "127.0.0.1"]
    command += ["--continuous-batching", *_POOL] if batching else []
    process = start("transformers_batching" if batching else "transformers", command, _SILENT)
    process.wait_ready("/health", _PEER_READY_S)
    process.pause()
    return HttpSide(process, str(market.folder), plan.max_tokens)
