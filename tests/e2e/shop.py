"""A node inside the test's own process: served over a socket, and open to be looked into."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import uvicorn
from fastapi import FastAPI

from inference.api.app import create_app
from inference.client import CHAT as CHAT_ROUTE
from inference.client import PaidAnswer
from inference.config import load
from inference.demo.node_process import NodeProcess
from inference.demo.purchases import payer
from inference.node import Node
from inference.observer import Observer
from inference.office import Office
from inference.operator_client import OperatorClient
from inference.serving_lock import ServingLock
from inference.stock import Stock
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import prepare_devnet
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import Cid, Codec
from registry.register import register_model
from registry.signing.signer import Signer
from registry.workspace import Workspace
from tests.e2e.market import PRICE

_YEAR_S = 365 * 24 * 3600


@dataclass
class Gate:
    """A block store whose blocks come only while it is open: a load takes as long as a test wants.

    `asked` counts what was read through it.
    """

    blocks: BlockStore
    is_open: threading.Event = field(default_factory=threading.Event)
    asked: int = 0
    waiting: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.is_open.set()

    def get(self, cid: Cid) -> bytes:
        self.asked += 1
        if not self.is_open.is_set():
            self.waiting.set()
        assert self.is_open.wait(60)
        return self.blocks.get(cid)

    def put(self, codec: Codec, data: bytes) -> Cid:
        return self.blocks.put(codec, data)

    def has(self, cid: Cid) -> bool:
        return self.blocks.has(cid)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Hold up whoever reads a block until the end."""
        self.waiting.clear()
        self.is_open.clear()
        try:
            yield
        finally:
            self.is_open.set()


@dataclass
class Shop:
    """A devnet, settings without models, and a node that begins empty."""

    devnet: Devnet
    config: Path
    workspace: Workspace
    node: Node
    url: str
    gate: Gate

    @property
    def address(self) -> str:
        return self.node.signer.address

    def publish(self, folder: Path, task: str = "chat") -> bytes:
        """Register a folder and have it vouched for; return its ModelId."""
        done = register_model(
            folder,
            name=folder.name,
            task=task,
            parents=(),
            blocks=self.workspace.blocks,
            registry=self.workspace.records,
            signer=self.workspace.signer("publisher"),
        )
        expires_at = self.workspace.chain.head().timestamp + _YEAR_S
        self.workspace.attestations.attest(
            self.workspace.signer("attester"), done.id, "integrity", 10_000, expires_at
        )
        return done.id

    def operator(self, signer: Signer | None = None) -> OperatorClient:
        contracts = self.node.config.registry.contracts
        return OperatorClient(
            self.url,
            signer=signer or self.workspace.signer("node"),
            chain_id=contracts.chain_id,
            node=self.address,
        )

    def place(self, name: str, model_id: bytes, **options: Any) -> dict[str, Any]:
        """Load a model by the operator's command."""
        with self.operator() as operator:
            return operator.load(name, model_id, options.pop("price", PRICE), **options)

    def payer(self, **options: Any) -> Any:
        node = cast(NodeProcess, SimpleNamespace(url=self.url, address=self.address))
        return payer(self.config, node, **options)

    def call(self, body: dict[str, Any], route: str = CHAT_ROUTE, **options: Any) -> PaidAnswer:
        async def go() -> PaidAnswer:
            async with self.payer(**options) as wallet:
                answer: PaidAnswer = await wallet.call(route, body)
                return answer

        return asyncio.run(go())

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """Return the bodies of the log's entries of a kind."""
        log, database = self.node.log, self.node.database
        found = database.read(lambda tx: log.entry_bytes(tx, 0, log.size(tx)))
        entries = [json.loads(entry) for entry in found]
        return [entry["body"] for entry in entries if entry["kind"] == kind]

    def receipts(self) -> list[dict[str, Any]]:
        """Return what the log's receipts say, oldest first."""
        return [body["receipt"] for body in self.entries("receipt")]

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)


@contextmanager
def opened(
    folder: Path,
    settings: str = "",
    add: Callable[[FastAPI, Node], None] | None = None,
    prices: str = "",
) -> Iterator[Shop]:
    """Open a shop in `folder`; `settings` are lines for the node's section, `add` adds routes.

    `prices` are sections of the settings file.
    """
    with Devnet.start() as devnet:
        path, _ = prepare_devnet(Chain(devnet.rpc_url), folder, devnet.rpc_url)
        lines = f"port = 8402\n{settings}\n"
        path.write_text(path.read_text().replace("port = 8402\n", lines) + prices)
        workspace = Workspace.open(registry_config(path, read_file(path)))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            office = Office.open(load(path))
            gate = Gate(office.workspace.blocks)
            office = replace(office, workspace=replace(office.workspace, blocks=gate))
            lock = ServingLock(office.config.database_url)
            node = Node(office, Stock(office), lock, Observer.open(office.config))
            app = create_app(node)
            if add is not None:
                add(app, node)
            with _served(app, listener):
                yield Shop(devnet, path, workspace, node, url, gate)


@contextmanager
def _served(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(60)
