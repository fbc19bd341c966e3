"""The stage for attacks: one devnet, one running node that sells a good model, a hostile publisher.

Nothing here is a fake. Whatever is bad was recorded on a real chain by a publisher whom the node
trusts, and was vouched for by an attester whom the node believes: the chain vouches for every case,
so that only the rule under test can refuse it.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from inference.client import PaidAnswer
from inference.demo.node_process import NodeProcess
from inference.demo.purchases import payer
from inference.errors import UnavailableError
from inference.loader import LoadedModel, load
from inference.operator import ModelRefusedError
from inference.operator_client import OperatorClient
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import add_model, prepare_devnet
from registry.errors import WeightproofError
from registry.hashing.dataset import HashedFile, root_of
from registry.ipfs.cid import RAW, Cid
from registry.manifest import Parent, Serving
from registry.record import Kind, record_id
from registry.register import register_model
from registry.verify import VerifiedModel
from registry.workspace import Workspace
from tests.attacks.forgery import forged_manifest
from tests.attacks.process_memory import held, peak_mb, reset_peak
from tests.inference import tiny_models

GOOD: Final = "good-llama"
SERVING: Final = Serving("F32", 64, 32)
_PRICE: Final = {"per_call": 100, "input_per_million": 1_000_000, "output_per_million": 2_000_000}
_PATH: Final = "/v1/chat/completions"
# The tables of what customers paid and were charged.
_LEDGER: Final = ("channels", "reservations", "authorizations", "receipts")
_PORT: Final = "port = 8402\n"
# Seconds within which the node notices that its memory was changed.
INTERVAL_S: Final = 1
# Entries of the log that a node hands out at once.
_PAGE: Final = 500
_YEAR_S: Final = 365 * 24 * 3600
# What refusing one small bad model may take. Busy processors are slow; a bomb takes far more.
_MAX_SECONDS: Final = 30.0
_MAX_GROWTH_MB: Final = 200


@dataclass(frozen=True)
class Case:
    """A recorded model, and the folder its files are read from; None reads them from blocks."""

    id: bytes
    folder: Path | None


@dataclass(frozen=True)
class Refusal:
    """How something was refused. `text` is all that a user sees.

    `resident_mb` is what this process took before, `growth_mb` how much more at its peak.
    """

    kind: type[WeightproofError]
    text: str
    path: str
    rule: str
    seconds: float
    growth_mb: float
    resident_mb: float


@dataclass(frozen=True)
class Books:
    """What a refused attack must leave as it was: the models on sale, and all that was charged."""

    catalog: tuple[str, ...]
    stopped: Mapping[str, str]
    rows: Mapping[str, tuple[object, ...]]

    @property
    def receipts(self) -> int:
        """How many calls were charged."""
        return len(self.rows["receipts"])


@dataclass(frozen=True)
class Hall:
    """The stage. `folder` is the good model's; copy it before changing it."""

    devnet: Devnet
    config: Path
    workspace: Workspace
    node: NodeProcess
    folder: Path
    good: Case
    # Every call that was paid for, so that any other that was charged is noticed.
    bought: list[PaidAnswer] = field(default_factory=list)

    # What a publisher may do

    def register(
        self,
        folder: Path,
        *,
        task: str = "chat",
        serving: Serving | None = SERVING,
        parents: Sequence[Parent] = (),
    ) -> Case:
        """Register a folder by the product's own means. Raises what `register_model` raises."""
        done = register_model(
            folder,
            name=folder.name,
            task=task,
            parents=parents,
            blocks=self.workspace.blocks,
            registry=self.workspace.records,
            signer=self.workspace.signer("publisher"),
            serving=serving,
        )
        if done.receipt is not None:
            self._vouch(done.id)
        return Case(done.id, folder)

    def register_refuses(self, folder: Path, match: str, *, task: str = "chat") -> None:
        """Show that registering refuses the folder, naming the rule, and records nothing."""
        before = self.devnet.chain.head().number
        with pytest.raises(WeightproofError, match=match):
            self.register(folder, task=task)
        assert self.devnet.chain.head().number == before

    def forge(
        self, folder: Path, *, recorded_parents: Sequence[bytes] | None = None, **changes: Any
    ) -> Case:
        """Record a folder by a manifest written by hand, whatever registering thinks of it.

        All blocks are stored. `changes` replace fields of the manifest, see `forged_manifest`;
        `recorded_parents` are what the chain is told, if it is not what the manifest says.
        """
        changes = {"serving": SERVING.to_json(), **changes}
        manifest = forged_manifest(folder, self.workspace.blocks, **changes)
        parents = [bytes.fromhex(parent["id"][2:]) for parent in manifest["parents"]]
        recorded = parents if recorded_parents is None else recorded_parents
        return Case(self.publish(manifest, parents=recorded), folder)

    def publish(
        self,
        manifest: Mapping[str, Any] | bytes,
        *,
        blocks: Sequence[bytes] = (),
        parents: Sequence[bytes] = (),
        kind: Kind = Kind.MODEL,
        stored: bool = True,
    ) -> bytes:
        """Record the digest of any manifest, and have it vouched for; return the record's id.

        `manifest` as a mapping is written as canonical JSON is: sorted keys, no spaces. `blocks`
        are raw blocks to store with it; with `stored` false the manifest's own block is kept back.
        """
        data = manifest if isinstance(manifest, bytes) else _written(manifest)
        for block in (*blocks, data) if stored else blocks:
            self.workspace.blocks.put(RAW, block)
        digest = hashlib.sha256(data).digest()
        publisher = self.workspace.signer("publisher")
        id = record_id(publisher.address, digest)
        if self.workspace.records.find(id) is None:
            self.workspace.records.register(publisher, kind, digest, parents)
            if kind is Kind.MODEL:
                self._vouch(id)
        return id

    def manifest_of(self, case: Case) -> bytes:
        """Return the bytes of a recorded manifest."""
        record = self.workspace.records.record(case.id)
        return self.workspace.blocks.get(Cid(RAW, record.manifest_digest))

    def root_of(self, files: Sequence[Mapping[str, Any]]) -> str:
        """Return the root that files of a manifest make, whatever their sizes are said to be."""
        return str(root_of(HashedFile(f["path"], f["size"], Cid.parse(f["cid"])) for f in files))

    def cid_of(self, data: bytes) -> str:
        """Return the name of a raw block, without storing it."""
        return str(Cid.of_block(RAW, data))

    # What must come of it

    def refuses(
        self,
        case: Case,
        match: str,
        *,
        path: str | None = None,
        seconds: float = _MAX_SECONDS,
        growth_mb: float = _MAX_GROWTH_MB,
    ) -> Refusal:
        """Show that neither this process nor the running node loads the model, and say why.

        `match` is a regular expression for the text, `path` the file that it must name. Refusing
        may take so many `seconds` and so much more memory.
        """
        refusal = self.refuses_here(case, match, path=path, seconds=seconds, growth_mb=growth_mb)
        self.node_refuses(case, match, path=path)
        return refusal

    def refuses_here(
        self,
        case: Case,
        match: str,
        *,
        path: str | None = None,
        seconds: float = _MAX_SECONDS,
        growth_mb: float = _MAX_GROWTH_MB,
    ) -> Refusal:
        """Show it for this process: an error that names file and rule, and no memory left."""
        before = held()
        refusal = self._attempt(case)
        assert refusal is not None, "it was loaded"
        assert re.search(match, refusal.text), f"refused for another reason: {refusal.text}"
        if path is not None:
            assert refusal.path == path or path in refusal.text, f"{path} not in {refusal.text}"
        assert refusal.seconds < seconds, f"refusing took {refusal.seconds:.1f} s"
        assert refusal.growth_mb < growth_mb, f"refusing took {refusal.growth_mb:.0f} MB"
        assert held() == before, "sealed memory or open weights are left"
        return refusal

    def node_refuses(self, case: Case, match: str, *, path: str | None = None) -> None:
        """Show it for the running node, asked by its operator: the same file and rule."""
        text = self.ask_node_to_load(case)
        assert text, "the node loaded it"
        assert re.search(match, text), f"the node refused for another reason: {text}"
        assert path is None or path in text, f"{path} not in {text}"

    def ask_node_to_load(self, case: Case, name: str = "attack") -> str:
        """Ask the running node, by its operator's signed command; return its refusal or nothing."""
        with self.operator() as operator:
            try:
                operator.load(name, case.id, _PRICE, folder=str(case.folder or ""))
            except (ModelRefusedError, UnavailableError) as error:
                return error.message
        return ""

    @contextmanager
    def on_sale(self, case: Case, name: str) -> Iterator[None]:
        """Have the running node sell a model that is not refused, for as long as the block runs."""
        refusal = self.ask_node_to_load(case, name)
        assert not refusal, refusal
        try:
            yield
        finally:
            with self.operator() as operator:
                operator.unload(name)

    def operator(self) -> OperatorClient:
        """Return the node's operator."""
        return OperatorClient(
            self.node.url,
            signer=self.workspace.signer("node"),
            chain_id=self.workspace.chain.chain_id,
            node=self.node.address,
        )

    def ask(self, model: str, text: str) -> httpx.Response:
        """Ask the node without paying: it answers with its price, or with why it will not."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
        with self.http() as client:
            return client.post(_PATH, json=body)

    def accepts(self, case: Case) -> None:
        """Show that the case loads: for positive controls."""
        with self.loaded(case):
            pass

    @contextmanager
    def loaded(self, case: Case) -> Iterator[LoadedModel]:
        """Verify and load the case in this process."""
        with self.verified(case) as verified:
            yield load(verified, device="cpu", threads=1)

    def verified(self, case: Case) -> VerifiedModel:
        """Verify the case in this process, as the node does."""
        return self.workspace.verify(case.id, folder=case.folder)

    # What the node's customers see

    def books(self) -> Books:
        """Return what the node sells and what it has charged so far."""
        with self.http() as client:
            models = client.get("/v1/models").json()["data"]
            stopped = client.get("/healthz").json()["stopped"]
        # Read from the node's own file, so that nothing it may forget to show stays unseen.
        database = self.config.parent / ".weightproof" / "node.sqlite"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
            rows = {name: tuple(file.execute(f"SELECT * FROM {name}")) for name in _LEDGER}
        catalog = tuple(sorted(json.dumps(model, sort_keys=True) for model in models))
        return Books(catalog, stopped, rows)

    def log_entries(self, kind: str) -> list[dict[str, Any]]:
        """Return the entries of one kind in the node's public log."""
        entries: list[dict[str, Any]] = []
        with self.http() as client:
            size = client.get("/v1/log").json()["size"]
            while len(entries) < size:
                page = {"start": len(entries), "end": min(size, len(entries) + _PAGE)}
                answer = client.get("/v1/log/entries", params=page).json()
                entries += [json.loads(entry) for entry in answer["entries"]]
        return [entry for entry in entries if entry["kind"] == kind]

    def pay(self, text: str = "Hello", model: str = GOOD) -> PaidAnswer:
        """Buy one answer; its receipt is checked."""

        async def call() -> PaidAnswer:
            async with payer(self.config, self.node) as customer:
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": text}],
                    "max_tokens": 4,
                    "temperature": 0,
                }
                return await customer.call(_PATH, body)

        self.bought.append(asyncio.run(call()))
        return self.bought[-1]

    def http(self) -> httpx.Client:
        """Return a client of the node."""
        return httpx.Client(base_url=self.node.url, timeout=60)

    def _attempt(self, case: Case) -> Refusal | None:
        # The error is taken apart here: its frames would keep what it refused in memory.
        resident = reset_peak()
        began = time.monotonic()
        try:
            self.accepts(case)
        except WeightproofError as error:
            found = (
                type(error),
                f"{error.message} {error.hint}",
                str(getattr(error, "path", "")),
                str(getattr(error, "rule", "")),
            )
        else:
            return None
        return Refusal(*found, time.monotonic() - began, peak_mb() - resident, resident)

    def _vouch(self, id: bytes) -> None:
        expires_at = self.workspace.chain.head().timestamp + _YEAR_S
        signer = self.workspace.signer("attester")
        self.workspace.attestations.attest(signer, id, "integrity", 10_000, expires_at)


@contextmanager
def opened(folder: Path) -> Iterator[Hall]:
    """Open the hall in an empty folder: a devnet, a good model, a node that sells it."""
    with Devnet.start() as devnet:
        config, _ = prepare_devnet(Chain(devnet.rpc_url), folder, devnet.rpc_url)
        settings = f"resident_check_s = {INTERVAL_S}\nrevocation_poll_s = 1"
        text = config.read_text()
        assert _PORT in text
        config.write_text(text.replace(_PORT, _PORT + settings + "\n"))
        workspace = Workspace.open(registry_config(config, read_file(config)))
        model = tiny_models.llama(folder / GOOD)
        # The node is there after the model it sells, so a first hall has none.
        stage = Hall(devnet, config, workspace, None, model, None)  # type: ignore[arg-type]
        good = stage.register(model)
        add_model(config, GOOD, good.id, _PRICE)
        with NodeProcess.start(config, log=folder / "node.log") as node:
            hall = Hall(devnet, config, workspace, node, model, good)
            # What is imported and computed once is not part of any case.
            hall.accepts(good)
            # Else each look at what is held would go through all of torch, a third of a second.
            gc.collect()
            gc.freeze()
            try:
                yield hall
            finally:
                gc.unfreeze()


def _written(manifest: Mapping[str, Any]) -> bytes:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")
