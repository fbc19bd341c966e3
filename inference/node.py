"""The node: the only file that knows all parts, and puts them together.

Opening a node: the chain and the contracts are found, the database is opened, every model is
verified and loaded. Nothing is sold before all of that has succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from inference.audit.anchor import AnchorContract
from inference.audit.log import AuditLog
from inference.catalog import Catalog, CatalogEntry
from inference.config import ModelConfig, NodeConfig
from inference.database import Database
from inference.engine.classifier import Classifier
from inference.engine.engine import TextEngine
from inference.loader import load
from inference.paid_call import Till
from inference.payments.authorizations import AuthorizationBook
from inference.payments.cashier import Cashier
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import Mover
from inference.payments.offers import Offers
from inference.payments.token_contract import TokenContract
from inference.payments.verification import Terms
from inference.payments.x402 import PaymentPayload
from inference.receipts import receipt_domain
from inference.refund import refund
from inference.settlement import Settlement
from inference.statements import Statements
from inference.watcher import Watcher
from registry.errors import ChainError, ConfigError
from registry.signing.signer import Signer
from registry.workspace import Workspace

# Told what is being done and to which model; returns what to call with bytes done.
Progress = Callable[[str, int], Callable[[int], None]]


@dataclass(frozen=True)
class Books:
    """A node's durable side: what `settle` and `checkpoint` need, without any model."""

    config: NodeConfig
    workspace: Workspace
    signer: Signer
    database: Database
    cashier: Cashier
    log: AuditLog
    settlement: Settlement

    @classmethod
    def open(cls, config: NodeConfig) -> Books:
        """Connect to the chain and open the database. Raises `ConfigError` or `ChainError`."""
        workspace = Workspace.open(config.registry)
        contracts = config.registry.contracts
        signer = workspace.signer("node")
        channels = ChannelsContract(workspace.chain, contracts.payment_channels)
        token = TokenContract(workspace.chain, _asset(config))
        terms = Terms(
            contract=contracts.payment_channels,
            collector=contracts.deposit_collector,
            receiver=config.receiver or signer.address,
            receiver_authorizer=signer.address,
            token=token.token(),
            withdraw_delay=config.withdraw_delay_s,
            min_deposit=config.min_deposit,
        )
        database = _database(config, contracts.payment_channels, signer)
        ledger, authorizations = ChannelLedger(), AuthorizationBook()
        mover = Mover(database, authorizations, channels, token, terms, signer)
        log = AuditLog(config.origin)
        settlement = Settlement(
            chain=workspace.chain,
            database=database,
            log=log,
            ledger=ledger,
            authorizations=authorizations,
            channels=channels,
            token=token,
            anchors=AnchorContract(workspace.chain, contracts.audit_anchor),
            terms=terms,
            signer=signer,
        )
        cashier = Cashier(database, ledger, authorizations, mover, terms)
        return cls(config, workspace, signer, database, cashier, log, settlement)

    def close(self) -> None:
        """Finish what is being written, and close."""
        self.database.close()


class Node:
    """An opened node: what it sells, and everything a paid call needs."""

    def __init__(self, books: Books, catalog: Catalog) -> None:
        self.books: Final = books
        self.config: Final = books.config
        self.signer: Final = books.signer
        self.cashier: Final = books.cashier
        self.database: Final = books.database
        self.log: Final = books.log
        self.settlement: Final = books.settlement
        self.catalog: Final = catalog
        self.watcher: Final = Watcher(
            catalog=catalog,
            workspace=books.workspace,
            report=books.settlement.report,
            poll_s=self.config.revocation_poll_s,
            resident_s=self.config.resident_check_s,
            grace_s=self.config.chain_grace_s,
        )
        contracts = self.config.registry.contracts
        self.till: Final = Till(
            catalog=catalog,
            cashier=self.cashier,
            database=self.database,
            log=self.log,
            statements=Statements(
                self.signer, receipt_domain(contracts.chain_id, contracts.audit_anchor)
            ),
            ready=self.watcher.ready,
        )
        self._started_at: Final = time.time()

    @classmethod
    def open(cls, config: NodeConfig, progress: Progress | None = None) -> Node:
        """Verify and load every model of the settings. Raises what forbids it."""
        if not config.models:
            raise ConfigError("no model is named", hint="add a [[models]] section")
        books = Books.open(config)
        catalog = Catalog()
        try:
            for model in config.models:
                catalog.add(_open_model(books, model, progress or _silent))
            books.settlement.start(f"weightproof {version('weightproof')}")
        except BaseException:
            _close(catalog)
            books.close()
            raise
        return cls(books, catalog)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch and settle while the node serves; close everything afterwards."""
        tasks = [asyncio.create_task(self.watcher.run())]
        if self.config.settle_every_s:
            tasks.append(asyncio.create_task(self._settle_for_ever()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.close()

    async def refund(self, payment: PaymentPayload, offers: Offers) -> str:
        """Refund a channel; return the PAYMENT-RESPONSE header."""
        self.watcher.ready()
        return await refund(payment, offers, self.cashier, self.settlement)

    def health(self) -> dict[str, object]:
        """Return what an operator's monitor asks: is the node selling, and if not, why."""
        silent = self.watcher.silent_s()
        stopped = {e.name: why for e in self.catalog if (why := self.catalog.stopped(e.name))}
        return {
            "status": "ok" if silent <= self.config.chain_grace_s else "chain_unreachable",
            "node": self.signer.address,
            "chain_id": self.config.registry.chain.chain_id,
            "chain_silent_s": int(silent),
            "models": [entry.name for entry in self.catalog if entry.name not in stopped],
            "stopped": stopped,
            "log_size": self.database.read(self.log.size),
            "up_s": int(time.time() - self._started_at),
        }

    def close(self) -> None:
        """Stop the engines and close the database."""
        _close(self.catalog)
        self.books.close()

    async def _settle_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.config.settle_every_s)
            # A chain that does not answer is asked again at the next tick: nothing is lost by it.
            with contextlib.suppress(ChainError):
                await asyncio.to_thread(self.settlement.tick)
                await asyncio.to_thread(self.settlement.anchor)


def _open_model(books: Books, model: ModelConfig, progress: Progress) -> CatalogEntry:
    folder: Path | None = model.folder
    verified = books.workspace.verify(
        model.model_id, folder=folder, progress=progress(f"verifying {model.name}", 0)
    )
    loaded = load(
        verified,
        device=books.config.device,
        threads=books.config.threads,
        progress=progress(f"loading {model.name}", 0),
    )
    engine: TextEngine | Classifier
    if loaded.task == "chat":
        engine = TextEngine(loaded, queue_limit=books.config.max_queue)
    else:
        engine = Classifier(loaded, queue_limit=books.config.max_queue)
    return CatalogEntry(model.name, verified, loaded, engine, model.price)


def _asset(config: NodeConfig) -> str:
    address = config.asset.address or config.registry.contracts.dev_usd
    if not address:
        raise ConfigError("no token to be paid in", hint="set node.asset.address")
    return address


def _database(config: NodeConfig, channels: str, signer: Signer) -> Database:
    url = config.database_url
    if url.startswith("sqlite:///"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    chain_id = config.registry.chain.chain_id
    return Database(url, chain_id=chain_id, channels=channels, node=signer.address)


def _close(catalog: Catalog) -> None:
    for entry in catalog:
        entry.engine.close()


def _silent(_label: str, _total: int) -> Callable[[int], None]:
    return lambda _: None
