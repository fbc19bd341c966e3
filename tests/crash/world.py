"""A world that outlives its node: chain, contracts, one small model, and the node's database."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

from inference.config import NodeConfig, load
from registry.chain.connection import Chain
from registry.chain.dev_usd import ONE, mint
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import add_model, prepare_devnet
from registry.register import register_model
from registry.signing.signer import ANVIL_CHAIN_ID, Signer
from registry.workspace import Workspace
from tests.crash.kill_points import KillPoint
from tests.fakes.rpc_proxy import Json, RpcProxy, reply
from tests.inference import tiny_models
from tests.registry.chain.rpc_server import rpc_server

MODEL: Final = "tiny"
PRICE: Final = {"per_call": 100, "input_per_million": 1_000_000, "output_per_million": 2_000_000}
_YEAR_S: Final = 365 * 24 * 3600
_START_S: Final = 120.0


class Nursery:
    """The process that forks nodes; see `nursery`."""

    def __init__(self) -> None:
        self._process: Final = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        self._ready = False

    def order(self, **order: Any) -> int:
        """Have a node started; return its pid."""
        if not self._ready:
            self._ready = bool(self.answer()["imported"])
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self.answer()["pid"])

    def answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.kill()
        with self._process:
            pass


@dataclass
class Watchman(RpcProxy):
    """Stands between the node and its chain, and kills it as it sends a transaction.

    A `chain` kill point matches a function's selector in the raw transaction: `before` it is
    passed on (never sent), or `after` (sent and mined; the node does not hear of it).
    """

    point: KillPoint | None = None
    pid: int = 0
    # Called as a transaction with `act_on` in it has been mined, before the node hears of it.
    act: Callable[[], None] | None = None
    act_on: str = ""
    _passing: int = 0
    _quiet: threading.Condition = field(default_factory=threading.Condition)

    def wait(self) -> None:
        """Wait until what a dead node sent is on the chain, or lost."""
        with self._quiet:
            assert self._quiet.wait_for(lambda: not self._passing, 30)

    def answer(self, handler: BaseHTTPRequestHandler, question: Json) -> None:
        with self._quiet:
            self._passing += 1
        try:
            self._answer(handler, question)
        finally:
            with self._quiet:
                self._passing -= 1
                self._quiet.notify_all()

    def _answer(self, handler: BaseHTTPRequestHandler, question: Json) -> None:
        point = self.point
        raw = question["method"] == "eth_sendRawTransaction" and str(question["params"])
        if raw and point and point.layer == "chain" and any(m in raw for m in point.match):
            point.nth -= 1
            if point.nth == 0:
                if point.when == "after":
                    self._ask(question)
                kill(self.pid)
                handler.close_connection = True
                return
        if raw and self.act and self.act_on in raw:
            answer = self._ask(question)
            act, self.act = self.act, None
            act()
            reply(handler, answer)
            return
        super().answer(handler, question)


def kill(pid: int) -> None:
    """End a process without giving it time for one more instruction."""
    with suppress(ProcessLookupError):  # it was quicker
        os.kill(pid, signal.SIGKILL)


@dataclass
class Node:
    """A node of the world. `url` is empty when it died before it was ready."""

    pid: int
    url: str
    nursery: Nursery
    gone: threading.Event = field(default_factory=threading.Event)
    status: int = 0

    def __post_init__(self) -> None:
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.status = self.nursery.answer()["status"]
        self.gone.set()

    @property
    def killed(self) -> bool:
        return os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status) == signal.SIGKILL

    def kill(self) -> None:
        kill(self.pid)
        assert self.gone.wait(30)

    def stop(self) -> None:
        """End it in order."""
        os.kill(self.pid, signal.SIGTERM)
        assert self.gone.wait(60)


@dataclass
class World:
    """Chain, settings and database. `port` stays, so that clients find the node again."""

    folder: Path
    devnet: Devnet
    config: Path
    workspace: Workspace
    nursery: Nursery
    watchman: Watchman
    port: int
    _last: Node | None = None

    @property
    def settings(self) -> NodeConfig:
        return load(self.config)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return Path(self.settings.database_url.removeprefix("sqlite:///"))

    @property
    def log(self) -> Path:
        return self.folder / "node.log"

    def start(self, point: KillPoint | None = None) -> Node:
        """Start a node and wait until it sells or has died."""
        self.end()
        self.watchman.wait()
        kill_order = None if point is None else asdict(point)
        self.watchman.point = None if point is None else KillPoint(**asdict(point))
        pid = self.nursery.order(
            config=str(self.config), port=self.port, errors=str(self.log), kill=kill_order
        )
        self.watchman.pid = pid
        ready = self.nursery.answer()["ready"]
        self._last = Node(pid, json.loads(ready)["url"] if ready else "", self.nursery)
        return self._last

    def end(self) -> None:
        """End a node that a failed test left alive.

        The nursery would wait for it, for ever; its end must be heard before the next is ordered.
        """
        if self._last is not None and not self._last.gone.is_set():
            self._last.kill()

    def remains(self) -> Path:
        """Copy the database as the dead node left it, write-ahead log and all."""
        folder = self.folder / "remains"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for part in self.database.parent.glob(self.database.name + "*"):
            if part.suffix != ".serving":
                shutil.copy(part, folder / part.name)
        return folder / self.database.name

    def fund(self, wallet: Signer) -> None:
        """Give a payer play money."""
        token = self.settings.registry.contracts.dev_usd
        assert token is not None
        mint(
            self.workspace.chain,
            Signer.anvil(0, chain_id=ANVIL_CHAIN_ID),
            token,
            wallet.address,
            100 * ONE,
        )


@contextmanager
def opened(
    folder: Path, settings: str = "settle_every_s = 1\nanchor_every_s = 1"
) -> Iterator[World]:
    """Open a world in `folder`; `settings` are lines of the node's section."""
    nursery = Nursery()  # it imports while the chain is prepared
    try:
        with Devnet.start() as devnet:
            watchman = Watchman(devnet.rpc_url)
            with rpc_server(watchman.answer) as watchman.url:
                config, _ = prepare_devnet(Chain(devnet.rpc_url), folder, watchman.url)
                text = re.sub(r"(?m)^settle_every_s.*$", settings, config.read_text())
                text = re.sub(r"(?m)^heads_url.*$\n", "", text)
                config.write_text(text.replace(".weightproof/node.sqlite", "books/node.sqlite"))
                workspace = Workspace.open(registry_config(config, read_file(config)))
                add_model(config, MODEL, _publish(workspace, folder / MODEL), PRICE)
                world = World(folder, devnet, config, workspace, nursery, watchman, _free_port())
                try:
                    yield world
                finally:
                    world.end()
    finally:
        nursery.close()


def _publish(workspace: Workspace, folder: Path) -> bytes:
    tiny_models.llama(folder, context=512)
    done = register_model(
        folder,
        name=MODEL,
        task="chat",
        parents=(),
        blocks=workspace.blocks,
        registry=workspace.records,
        signer=workspace.signer("publisher"),
    )
    expires_at = workspace.chain.head().timestamp + _YEAR_S
    signer = workspace.signer("attester")
    workspace.attestations.attest(signer, done.id, "integrity", 10_000, expires_at)
    return done.id


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
