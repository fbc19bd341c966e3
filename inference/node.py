"""The node: the only file that knows all parts, and puts them together.

Opening a node: the chain and the contracts are found, the database is opened, every model of the
settings is verified and loaded. Nothing is sold before all of that has succeeded; more models come
and go later, by the operator's word.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Final

from inference.answers import AnswerBook
from inference.catalog import Catalog
from inference.config import ModelConfig, NodeConfig
from inference.demands import Demands
from inference.errors import NodeError
from inference.gauges import Gauges
from inference.observer import Observer
from inference.office import Office
from inference.operator import OperatorGuard, operator_domain
from inference.patrol import Patrol
from inference.payments.offers import Offers
from inference.payments.x402 import PaymentPayload
from inference.receipts import receipt_domain
from inference.refund import refund
from inference.retries import Retries
from inference.rounds import Rounds
from inference.sale import Till
from inference.serving_lock import ServingLock
from inference.sign_in import SignIn
from inference.statements import Statements
from inference.stock import Placed, Progress, Stock
from inference.watcher import Watcher
from inference.witness import Witness
from registry.errors import ConfigError, WeightproofError

# Seconds after which a channel is free again whose call's node was killed.
_SUCCEED_S: Final = 2
# A model that is refused with this exit code is itself at fault, not the moment or the machine.
_REFUSED: Final = 3


class Node:
    """An opened node: what it sells, and everything a paid call needs."""

    def __init__(self, office: Office, stock: Stock, lock: ServingLock, observer: Observer) -> None:
        self._lock: Final = lock
        self.observer: Final = observer
        self.stock: Final = stock
        self.office: Final = office
        self.config: Final = office.config
        self.signer: Final = office.signer
        self.cashier: Final = office.cashier
        self.database: Final = office.database
        self.log: Final = office.log
        self.settlement: Final = office.settlement
        self.catalog: Final[Catalog] = stock.catalog
        self.watcher: Final = Watcher(
            catalog=self.catalog,
            workspace=office.workspace,
            report=office.settlement.report,
            poll_s=self.config.revocation_poll_s,
            grace_s=self.config.chain_grace_s,
        )
        self.patrol: Final = Patrol(
            catalog=self.catalog,
            report=office.settlement.report,
            interval_s=self.config.resident_check_s,
        )
        self.witness: Final = Witness(self.catalog, self.signer, stop=self.patrol.stop)
        self.retries: Final = Retries(self.database, AnswerBook(self.config.answers))
        contracts = self.config.registry.contracts
        self.sign_in: Final = SignIn.of(self.signer, self.config.public_url, contracts.chain_id)
        self.disclosures: Final = office.disclosures
        self.till: Final = Till(
            catalog=self.catalog,
            cashier=self.cashier,
            demands=Demands(self.signer, self.retries.declaration()),
            database=self.database,
            log=self.log,
            statements=Statements(
                self.signer, receipt_domain(contracts.chain_id, contracts.audit_anchor)
            ),
            tariff=office.tariff,
            observer=observer,
            retries=self.retries,
            disclosures=self.disclosures.book,
            ready=self.watcher.ready,
        )
        if observer.metrics is not None:
            observer.metrics.add(Gauges(self.catalog, self.database, self.health))
        self.operator: Final = OperatorGuard(
            operator_domain(contracts.chain_id, self.signer.address),
            self.config.operator or self.signer.address,
        )
        self._started_at: Final = time.time()
        self.rounds: Final = Rounds(
            self.settlement,
            look_s=self.config.withdrawal_look_s,
            every_s=self.config.settle_every_s,
            anchor_every=self.config.anchor_every,
            anchor_every_s=self.config.anchor_every_s,
            answer=office.answering.answer if office.answering else None,
        )

    @classmethod
    def open(
        cls, config: NodeConfig, progress: Progress | None = None, *, empty: bool = False
    ) -> Node:
        """Verify and load every model of the settings. Raises what forbids it.

        `empty` allows there to be none, for an operator who loads them while the node runs.
        """
        if not config.models and not empty:
            raise ConfigError(
                "no model is named",
                hint="add a [[models]] section, or serve --empty and load models while it runs",
            )
        # A call log that cannot be written is told before models take minutes to load.
        observer = Observer.open(config)
        office, stock = None, None
        try:
            office = Office.open(config)
            lock = ServingLock(config.database_url)
            stock = Stock(office)
            for model in config.models:
                stock.load(model, progress)
            office.settlement.start(f"weightproof {version('weightproof')}")
        except BaseException:
            if stock is not None:
                stock.close()
            if office is not None:
                office.close()
            observer.close()
            raise
        return cls(office, stock, lock, observer)

    def load(self, model: ModelConfig) -> Placed:
        """Load or swap a model while the node serves; the log tells of one that is refused.

        Takes as long as verifying and loading take. Raises what `Stock.load` raises.
        """
        try:
            return self.stock.load(model)
        except WeightproofError as error:
            if error.exit_code == _REFUSED:
                # A log that cannot be written now must not hide why the model was refused.
                with contextlib.suppress(NodeError):
                    # Where the operator keeps files is nobody else's to know.
                    detail = error.message.replace(str(model.folder or "\0"), "folder")
                    self.settlement.report("load refused", "0x" + model.model_id.hex(), detail)
            raise

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Watch and settle while the node serves; close everything afterwards."""
        parts = (self.watcher, self.patrol, self.retries, self.disclosures)
        tasks = [asyncio.create_task(part.run()) for part in parts]
        tasks.append(asyncio.create_task(self._succeed_for_ever()))
        if self.config.cosigning.witnesses:
            tasks.append(asyncio.create_task(self.office.cosigning.run()))
        if self.config.settle_every_s:
            tasks.append(asyncio.create_task(self.rounds.run()))
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
        status, detail = self.watcher.state()
        block = self.watcher.block
        stopped = {e.name: why for e in self.catalog if (why := self.catalog.stopped(e.name))}
        return {
            "status": status,
            "detail": detail,
            "block": block and {"number": block.number, "hash": "0x" + block.hash.hex()},
            "heads": "pushed" if self.watcher.pushed else "polled",
            "node": self.signer.address,
            "chain_id": self.config.registry.chain.chain_id,
            "chain_silent_s": int(self.watcher.silent_s()),
            "models": [entry.name for entry in self.catalog if entry.name not in stopped],
            "stopped": stopped,
            "resident_bound_s": round(self.patrol.bound_s, 1),
            "settle_error": self.rounds.error,
            "witness_error": self.office.cosigning.error,
            "log_size": self.database.read(self.log.size),
            "up_s": int(time.time() - self._started_at),
        }

    def close(self) -> None:
        """Stop the engines and close the database."""
        self.stock.close()
        self.office.close()
        self._lock.close()
        self.observer.close()

    async def _succeed_for_ever(self) -> None:
        """End what other nodes left in flight, soon after their processes ended."""
        while True:
            await asyncio.sleep(_SUCCEED_S)
            # Without chain or database it is for the next time, or for another node; an odd error
            # must not end it for ever.
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self.settlement.recover)
