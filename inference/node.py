"""The node: the only file that knows all parts, and puts them together.

Opening a node: the chain and the contracts are found, the database is opened, every model is
verified and loaded. Nothing is sold before all of that has succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from inference.catalog import Catalog, CatalogEntry
from inference.config import ModelConfig, NodeConfig
from inference.engine.classifier import Classifier
from inference.engine.engine import TextEngine
from inference.loader import load
from inference.office import Office
from inference.paid_call import Till
from inference.payments.offers import Offers
from inference.payments.x402 import PaymentPayload
from inference.receipts import receipt_domain
from inference.refund import refund
from inference.serving_lock import ServingLock
from inference.statements import Statements
from inference.watcher import Watcher
from registry.errors import ConfigError, WeightproofError

# Told what is being done and to which model; returns what to call with bytes done.
Progress = Callable[[str, int], Callable[[int], None]]


class Node:
    """An opened node: what it sells, and everything a paid call needs."""

    def __init__(self, office: Office, catalog: Catalog, lock: ServingLock) -> None:
        self._lock: Final = lock
        self.office: Final = office
        self.config: Final = office.config
        self.signer: Final = office.signer
        self.cashier: Final = office.cashier
        self.database: Final = office.database
        self.log: Final = office.log
        self.settlement: Final = office.settlement
        self.catalog: Final = catalog
        self.watcher: Final = Watcher(
            catalog=catalog,
            workspace=office.workspace,
            report=office.settlement.report,
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
        self._settle_error = ""

    @classmethod
    def open(cls, config: NodeConfig, progress: Progress | None = None) -> Node:
        """Verify and load every model of the settings. Raises what forbids it."""
        if not config.models:
            raise ConfigError("no model is named", hint="add a [[models]] section")
        office = Office.open(config)
        catalog = Catalog()
        try:
            lock = ServingLock(config.database_url)
            for model in config.models:
                catalog.add(_open_model(office, model, progress or _silent))
            office.settlement.start(f"weightproof {version('weightproof')}")
        except BaseException:
            _close(catalog)
            office.close()
            raise
        return cls(office, catalog, lock)

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
            "settle_error": self._settle_error,
            "log_size": self.database.read(self.log.size),
            "up_s": int(time.time() - self._started_at),
        }

    def close(self) -> None:
        """Stop the engines and close the database."""
        _close(self.catalog)
        self.office.close()
        self._lock.close()

    async def _settle_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.config.settle_every_s)
            # A chain or database that does not answer is asked again at the next tick: what was
            # done stays done, and nothing is lost by waiting.
            for step in (self.settlement.tick, self.settlement.anchor):
                try:
                    await asyncio.to_thread(step)
                    self._settle_error = ""
                except WeightproofError as error:
                    self._settle_error = error.message


def _open_model(office: Office, model: ModelConfig, progress: Progress) -> CatalogEntry:
    folder: Path | None = model.folder
    verified = office.workspace.verify(
        model.model_id, folder=folder, progress=progress(f"verifying {model.name}", 0)
    )
    loaded = load(
        verified,
        device=office.config.device,
        threads=office.config.threads,
        progress=progress(f"loading {model.name}", 0),
    )
    engine: TextEngine | Classifier
    if loaded.task == "chat":
        engine = TextEngine(loaded, queue_limit=office.config.max_queue)
    else:
        engine = Classifier(loaded, queue_limit=office.config.max_queue)
    return CatalogEntry(model.name, verified, loaded, engine, model.price)


def _close(catalog: Catalog) -> None:
    for entry in catalog:
        entry.engine.close()


def _silent(_label: str, _total: int) -> Callable[[int], None]:
    return lambda _: None
