"""The office: a node's durable side, which settles and signs without any model.

`weightproof settle` and `checkpoint` open it beside a running node, on the same database.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inference.answering import Answering
from inference.audit.anchor import AnchorContract
from inference.audit.anchored_windows import beacon_of
from inference.audit.beacon import Window
from inference.audit.disclosure import disclosure_domain
from inference.audit.log import AuditLog
from inference.audit.node_registry import NodeRegistry
from inference.config import NodeConfig
from inference.cosigning import Cosigning
from inference.coupon import CouponGuard, coupon_domain
from inference.database import Database
from inference.disclosure_book import DisclosureBook
from inference.disclosures import Disclosures
from inference.limits import Buckets
from inference.payments.authorizations import AuthorizationBook
from inference.payments.cashier import Cashier
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import Mover
from inference.payments.plan_book import PlanBook
from inference.payments.token_contract import TokenContract
from inference.payments.verification import Terms
from inference.payments.wallet_contract import Wallets
from inference.price_offer import Shop
from inference.sent_book import SentBook
from inference.settlement import Settlement
from inference.tariff import Tariff
from inference.trial_door import TrialDoor
from registry.errors import ConfigError
from registry.signing.signer import Signer
from registry.workspace import Workspace


@dataclass(frozen=True)
class Office:
    """Chain, keys, database, ledgers and log of one node, put together."""

    config: NodeConfig
    workspace: Workspace
    signer: Signer
    database: Database
    cashier: Cashier
    log: AuditLog
    settlement: Settlement

    @classmethod
    def open(cls, config: NodeConfig) -> Office:
        """Connect to the chain and open the database. Raises `ConfigError` or `ChainError`."""
        workspace = Workspace.open(config.registry)
        contracts = config.registry.contracts
        signer = workspace.signer("node")
        wallets = Wallets(workspace.chain, config.wallet_gas, config.wallet_factories)
        channels = ChannelsContract(workspace.chain, contracts.payment_channels, wallets)
        token = TokenContract(workspace.chain, _asset(config), wallets)
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
        book = SentBook(database)
        workspace.chain.keep(book)
        ledger, authorizations = ChannelLedger(), AuthorizationBook()
        moving = channels, token, terms, signer, wallets, contracts.from_block
        mover = Mover(database, authorizations, *moving)
        log = AuditLog(config.origin)
        settlement = Settlement(
            chain=workspace.chain,
            database=database,
            book=book,
            log=log,
            ledger=ledger,
            authorizations=authorizations,
            channels=channels,
            token=token,
            anchors=AnchorContract(workspace.chain, contracts.audit_anchor),
            terms=terms,
            signer=signer,
            policy=config.claims,
            from_block=contracts.from_block,
            bonds=_bonds(workspace),
        )
        payers = Buckets(config.limits.payer, "payer")
        cashier = Cashier(
            database,
            ledger,
            authorizations,
            mover,
            terms,
            limits=config.limits.channels,
            admit=payers.take,
        )
        return cls(config, workspace, signer, database, cashier, log, settlement)

    @cached_property
    def tariff(self) -> Tariff:
        """What applies the settings' prices and plans to calls."""
        domain = coupon_domain(self.config.registry.contracts.chain_id, self.signer.address)
        token = TokenContract(self.workspace.chain, _asset(self.config))
        book = PlanBook(self.config.plans)
        return Tariff(
            book=book,
            coupons=CouponGuard(domain, self.config.operator or self.signer.address),
            shop=Shop(
                self.signer,
                self.config.registry.contracts.chain_id,
                _asset(self.config),
                self.config.plans,
                self.database,
            ),
            database=self.database,
            trials=TrialDoor(book, self.database, token.balance_of),
            public_url=self.config.public_url,
        )

    @cached_property
    def cosigning(self) -> Cosigning:
        """Who shows the log's heads to witnesses."""
        return Cosigning(self.database, self.log, self.settlement.checkpoint, self.config.cosigning)

    @cached_property
    def disclosures(self) -> Disclosures:
        """What is kept for auditors, and who answers them."""
        contracts = self.config.registry.contracts
        return Disclosures(
            DisclosureBook(self.config.disclosure),
            self.database,
            self.log,
            self.signer,
            disclosure_domain(contracts.chain_id, contracts.audit_anchor),
            self.windows,
            Wallets(self.workspace.chain, self.config.wallet_gas).confirms,
        )

    def windows(self) -> tuple[Window, ...]:
        """Ask the chain which entries of the log the beacon gives ranks by now."""
        anchors, contracts = self.settlement.anchors, self.config.registry.contracts
        history = anchors.history(
            self.signer.address, self.log.origin, from_block=contracts.from_block
        )
        return beacon_of(history, self.log.origin, self.workspace.chain)

    @cached_property
    def answering(self) -> Answering | None:
        """Who answers challenges; None where nodes put up no bonds."""
        bonds = self.settlement.bonds
        return Answering(self.settlement, bonds) if bonds else None

    def close(self) -> None:
        """Finish what is being written, and close."""
        self.database.close()


def _bonds(workspace: Workspace) -> NodeRegistry | None:
    address = workspace.config.contracts.node_registry
    return NodeRegistry(workspace.chain, address) if address else None


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
