"""The stage: one devnet with registered models, on which nodes are opened that lie in one part.

Each node has a key, a log and a database of its own, and is served over real HTTP on loopback. Its
payers are new wallets with the official client; its auditor is the product's own.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import uvicorn

from inference.api.app import create_app
from inference.config import ModelConfig, NodeConfig, load
from inference.engine.engine import TextEngine
from inference.engine.engines import open_engine
from inference.loader import LoadedModel
from inference.loader import load as place
from inference.node import Node
from inference.observer import Observer
from inference.office import Office
from inference.payments.pricing import Price
from inference.replayer import ModelReplayer
from inference.serving_lock import ServingLock
from inference.stock import Stock
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import KeyConfig, read_file, registry_config
from registry.devnet_file import prepare_devnet
from registry.register import register_model
from registry.signing.signer import Signer
from registry.workspace import Workspace
from tests.inference import tiny_models
from tests.liars.actor import CLASSIFIER, MODEL, Actor
from tests.liars.honest import Honest
from tests.liars.weights import rounded, shuffled
from tests.liars.wire import Wire

PRICE = Price(per_call=100, input_per_million=1_000_000, output_per_million=2_000_000)
EXACT_PRICE = Price(per_call=200, input_per_million=3_000_000, output_per_million=6_000_000)
_YEAR_S = 365 * 24 * 3600
_ETHER = hex(10**20)


@dataclass(frozen=True)
class _Keys(KeyConfig):
    """The devnet's keys, and a node's own."""

    own: Signer | None = None

    def signer(self, role: str, *, chain_id: int) -> Signer:
        if role == "node" and self.own is not None:
            return self.own
        return super().signer(role, chain_id=chain_id)


@dataclass
class Stage:
    """What all nodes share. `models` are ModelIds by name."""

    devnet: Devnet
    config: NodeConfig
    workspace: Workspace
    folder: Path
    models: dict[str, bytes]
    replayer: ModelReplayer
    opened: int = 0
    engines: dict[str, TextEngine] = field(default_factory=dict)
    last: Actor | None = None

    def engine(self, name: str) -> TextEngine:
        """Return what computes another model of the stage: it is loaded once."""
        if name not in self.engines:
            verified = self.workspace.verify(self.models[name])
            self.engines[name] = TextEngine(place(verified, device="cpu", threads=1))
        return self.engines[name]

    def publish(self, folder: Path, task: str = "chat", *, attest: bool = True) -> bytes:
        """Register a folder of files; return its ModelId."""
        done = register_model(
            folder,
            name=folder.name,
            task=task,
            parents=(),
            blocks=self.workspace.blocks,
            registry=self.workspace.records,
            signer=self.workspace.signer("publisher"),
        )
        if attest:
            until = self.workspace.chain.head().timestamp + _YEAR_S
            self.workspace.attestations.attest(
                self.workspace.signer("attester"), done.id, "integrity", 10_000, until
            )
        return done.id

    def fresh(self, name: str) -> Path:
        """Return the folder of a model nobody registered before, of random weights."""
        self.opened += 1
        return shuffled(
            self.folder / MODEL, self.folder / f"{name}-{self.opened}", seed=1000 + self.opened
        )

    @contextmanager
    def node(
        self,
        lie: Honest | None = None,
        *,
        models: dict[str, bytes] | None = None,
        twin: Actor | None = None,
        **settings: Any,
    ) -> Iterator[Actor]:
        """Open a node that sells `models`, with the part that `lie` replaces.

        A `twin` has the key and the log's name of another node, and a database of its own, unless
        the settings name one.
        """
        lie = lie or Honest()
        self.opened += 1
        config = self._settings(twin, models or {MODEL: self.models[MODEL]}, settings)
        office = lie.office(Office.open(config))

        def engines(loaded: LoadedModel, *, kind: str, queue_limit: int) -> Any:
            honest = open_engine(loaded, kind=kind, queue_limit=queue_limit)
            return lie.engine(honest, self)

        stock, lock = Stock(office, engines), ServingLock(config.database_url)
        for model in config.models:
            stock.load(model)
        office.settlement.start("weightproof tests")
        node = _Node(lie, office, stock, lock, Observer.open(config))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            # A twin lies for the node it is a twin of.
            actor = Actor(self, node, url)
            self.last = twin or actor
            app = create_app(node)
            if type(lie).wire is not Honest.wire:  # it holds back whole streams
                app = Wire(app, lambda answer: lie.wire(answer, actor))
            with _served(app, listener):
                yield actor

    def _settings(
        self, twin: Actor | None, models: dict[str, bytes], settings: dict[str, Any]
    ) -> NodeConfig:
        registry = self.config.registry
        key = twin.node.signer if twin else Signer.random()
        origin = twin.node.log.origin if twin else f"weightproof.test/{self.opened}"
        keys = _Keys(registry.keys.references, registry.keys.folder, own=key)
        registry = replace(registry, keys=keys, **settings.pop("registry", {}))
        self.workspace.chain.rpc("anvil_setBalance", key.address, _ETHER)
        usual: dict[str, Any] = {"database_url": f"sqlite:///{self.folder}/node-{self.opened}.db"}
        models_sold = tuple(
            ModelConfig(name, model_id, None, PRICE, EXACT_PRICE)
            for name, model_id in models.items()
        )
        return replace(
            self.config,
            registry=registry,
            origin=origin,
            models=models_sold,
            **(usual | settings),
        )


class _Node(Node):
    """A node of the product, one part of which a lie has replaced."""

    def __init__(self, lie: Honest, *parts: Any) -> None:
        super().__init__(*parts)
        self.lie = lie
        self.watcher = lie.watcher(self.watcher)
        statements = lie.statements(self.till.statements)
        self.till = lie.till(replace(self.till, statements=statements, ready=self.watcher.ready))


@contextmanager
def opened(folder: Path) -> Iterator[Stage]:
    """Open a stage in `folder`: a devnet, contracts, and three registered models."""
    with Devnet.start() as devnet:
        path, _ = prepare_devnet(Chain(devnet.rpc_url), folder, devnet.rpc_url)
        workspace = Workspace.open(registry_config(path, read_file(path)))
        with closing(ModelReplayer(workspace, lambda _: None)) as replayer:
            stage = Stage(devnet, load(path), workspace, folder, {}, replayer)
            honest = tiny_models.llama(folder / MODEL, context=256)
            for name, made, task in (
                (MODEL, honest, "chat"),
                ("other", shuffled(honest, folder / "other", seed=8), "chat"),
                ("rounded", rounded(honest, folder / "rounded", levels=7), "chat"),
                (CLASSIFIER, tiny_models.bert_classifier(folder / CLASSIFIER), "classify"),
            ):
                stage.models[name] = stage.publish(made, task)
            yield stage
            for engine in stage.engines.values():
                engine.close()


@contextmanager
def _served(app: Any, listener: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(60)
        with suppress(OSError):
            listener.close()
