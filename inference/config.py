"""Settings of the node: the sections `node`, `models`, `prices` and `limits` of `weightproof.toml`.

==========================  ====================================================================
WEIGHTPROOF_NODE_URL        the node that client commands talk to
DATABASE_URL                overrides node.database: sqlite:///path, or, for several nodes on one
                            set of channels, postgresql://user:password@host/name
XDG_STATE_HOME              where an auditor's memory lies: in its folder `weightproof`
==========================  ====================================================================
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from inference.answers_config import AnswersConfig, read_answers
from inference.audit.checkpoint import Checkpoint, CheckpointError
from inference.claiming import ClaimPolicy
from inference.disclosure_config import DisclosureConfig, read_disclosure
from inference.door_config import DoorConfig, read_door
from inference.limit_config import LimitConfig, read_limits
from inference.observer_config import ObserverConfig, read_observer
from inference.payments.plans import Plans
from inference.payments.pricing import Price
from inference.payments.wallet import MOST_GAS
from inference.price_config import read_plans, read_prices
from inference.witness_config import CosigningConfig, read_cosigning
from registry.config import (
    RegistryConfig,
    Section,
    checked_address,
    find_file,
    read_file,
    registry_config,
)
from registry.errors import ConfigError
from registry.signing.signer import ANVIL_CHAIN_ID

# What makes tokens: our own engine, or transformers' continuous batching.
ENGINES: Final = ("weightproof", "transformers")


@dataclass(frozen=True)
class AssetConfig:
    """The token a node is paid in: its address and EIP-712 domain."""

    address: str
    name: str
    version: str


@dataclass(frozen=True)
class ModelConfig:
    """One model to serve: the name clients use, its ModelId, where its files lie, its price.

    `exact_price` is that of `determinism: "exact"`; without one `price` holds for it too.
    """

    name: str
    model_id: bytes
    folder: Path | None
    price: Price
    exact_price: Price | None = None


@dataclass(frozen=True)
class NodeConfig:
    """Everything `weightproof serve` needs. Times in seconds, sizes in bytes, amounts in atoms.

    `memory_budget_bytes` 0 is what the device has; `operator` is the address whose signature
    commands the node, empty for the node's own key. `engine` is one of `ENGINES`. `wallet_gas`
    bounds each transaction that runs the code of a payer that is a contract, 0 takes none of them;
    `wallet_factories` are called, at the operator's cost, to make wallets that are not there yet.
    """

    registry: RegistryConfig
    host: str
    port: int
    public_url: str
    origin: str
    database_url: str = field(repr=False)  # it may hold a password
    asset: AssetConfig
    receiver: str
    min_deposit: int
    withdraw_delay_s: int
    wallet_gas: int
    wallet_factories: frozenset[str]
    max_body_bytes: int
    max_queue: int
    revocation_poll_s: int
    resident_check_s: int
    chain_grace_s: int
    settle_every_s: int
    anchor_every: int
    anchor_every_s: int
    withdrawal_look_s: int
    claims: ClaimPolicy
    device: str
    threads: int
    engine: str
    memory_budget_bytes: int
    unload_when_full: bool
    operator: str
    observer: ObserverConfig
    answers: AnswersConfig
    disclosure: DisclosureConfig
    door: DoorConfig
    models: tuple[ModelConfig, ...]
    plans: Plans = field(default_factory=Plans)
    limits: LimitConfig = field(default_factory=LimitConfig)
    cosigning: CosigningConfig = field(default_factory=CosigningConfig)


def state_folder() -> Path:
    """Return the user's folder for what a command remembers (XDG_STATE_HOME)."""
    root = os.environ.get("XDG_STATE_HOME", "")
    return (Path(root) if root else Path.home() / ".local" / "state") / "weightproof"


def load(explicit: Path | None = None) -> NodeConfig:
    """Read the settings file and the environment. Raises `ConfigError`."""
    path = find_file(explicit)
    root = read_file(path)
    registry = registry_config(path, root)
    prices = root.section("prices")
    config = _node(root.section("node"), registry, _models(root, path.parent, prices))
    limits = read_limits(root.section("limits"))
    config = replace(config, plans=read_plans(prices), limits=limits)
    root.finish()
    return config


def node_url(config: NodeConfig) -> str:
    """Return where client commands find the node."""
    return os.environ.get("WEIGHTPROOF_NODE_URL") or config.public_url


def _node(
    section: Section, registry: RegistryConfig, models: tuple[ModelConfig, ...]
) -> NodeConfig:
    host, port = section.text("host", "127.0.0.1"), section.integer("port", 8402, high=65535)
    database = registry.path.parent / section.text("database", ".weightproof/node.sqlite")
    config = NodeConfig(
        registry=registry,
        host=host,
        port=port,
        public_url=section.text("public_url", f"http://{host}:{port}"),
        origin=_origin(section.text("origin", "weightproof.local/node")),
        database_url=os.environ.get("DATABASE_URL") or f"sqlite:///{database}",
        asset=_asset(section.section("asset")),
        receiver=_address("node.receiver", section.text("receiver", "")),
        min_deposit=section.integer("min_deposit", 1),
        withdraw_delay_s=section.integer("withdraw_delay_s", 900, low=900, high=2_592_000),
        wallet_gas=section.integer("wallet_gas", MOST_GAS, high=10_000_000),
        wallet_factories=frozenset(
            _address("node.wallet_factories", text) for text in section.texts("wallet_factories")
        ),
        max_body_bytes=section.integer("max_body_bytes", 1024 * 1024, low=1),
        max_queue=section.integer("max_queue", 64, low=1),
        revocation_poll_s=section.integer("revocation_poll_s", 1, low=1, high=60),
        resident_check_s=section.integer("resident_check_s", 30, low=1, high=3600),
        chain_grace_s=section.integer("chain_grace_s", 15, low=1, high=3600),
        settle_every_s=section.integer("settle_every_s", 60, high=86400),
        anchor_every=section.integer("anchor_every", 10_000, low=1, high=1_000_000),
        anchor_every_s=section.integer("anchor_every_s", 600, low=1, high=86_400),
        withdrawal_look_s=section.integer("withdrawal_look_s", 15, low=1, high=300),
        claims=_claims(section.section("claims")),
        device=section.text("device", "auto"),
        threads=section.integer("threads", 0, high=1024),
        engine=_engine(section.text("engine", ENGINES[0])),
        memory_budget_bytes=section.integer("memory_budget_bytes", 0),
        unload_when_full=section.flag("unload_when_full", False),
        operator=_address("node.operator", section.text("operator", "")),
        observer=read_observer(section, registry.path.parent),
        answers=read_answers(section.section("answers")),
        disclosure=read_disclosure(section.section("disclosure")),
        door=read_door(section),
        models=models,
        cosigning=read_cosigning(section),
    )
    section.finish()
    _check_settling(config)
    _check_factories(config)
    return config


def _claims(section: Section) -> ClaimPolicy:
    usual = ClaimPolicy()
    policy = ClaimPolicy(
        profit=section.integer("profit", usual.profit, low=1, high=1000),
        coin_price=section.integer("coin_price", usual.coin_price),
        min_amount=section.integer("min_amount", usual.min_amount),
        max_age_s=section.integer("max_age_s", usual.max_age_s, low=60),
        gas_percent=section.integer("gas_percent", usual.gas_percent, low=1, high=100),
    )
    section.finish()
    return policy


def _check_settling(config: NodeConfig) -> None:
    """Vouchers must be claimed well before a withdrawal can end, or they are lost."""
    every, devnet = config.settle_every_s, config.registry.chain.chain_id == ANVIL_CHAIN_ID
    if (every == 0 and not devnet) or every > config.withdraw_delay_s // 3:
        raise ConfigError(
            f"node.settle_every_s is {every}; claims could come after a withdrawal ended",
            hint=f"set 1 to {config.withdraw_delay_s // 3}; 0 (by hand) works on a devnet only",
        )


def _check_factories(config: NodeConfig) -> None:
    """Refuse our own: a payer writes what a factory is called with, and the node calls it."""
    contracts = config.registry.contracts
    own = {config.asset.address, contracts.dev_usd, contracts.payment_channels}
    if found := config.wallet_factories & (own | {contracts.deposit_collector}):
        raise ConfigError(
            f"node.wallet_factories names {min(found)}, which holds money",
            hint="name contracts that make wallets and do nothing else",
        )


def _asset(section: Section) -> AssetConfig:
    asset = AssetConfig(
        address=_address("node.asset.address", section.text("address", "")),
        name=section.text("name", ""),
        version=section.text("version", "1"),
    )
    section.finish()
    return asset


def _models(root: Section, folder: Path, prices: Section) -> tuple[ModelConfig, ...]:
    models = tuple(_model(section, folder, prices) for section in root.sections("models"))
    names = [model.name for model in models]
    if len(set(names)) != len(names):
        raise ConfigError("two models have the same name")
    return models


def _model(section: Section, folder: Path, prices: Section) -> ModelConfig:
    own = "price" in section or "default" not in prices
    price, exact = read_prices(section.section("price") if own else prices.section("default"))
    files = section.text("folder", "")
    model = ModelConfig(
        name=section.text("name"),
        model_id=_digest("models.id", section.text("id")),
        folder=folder / files if files else None,
        price=price,
        exact_price=exact,
    )
    section.finish()
    return model


def _origin(text: str) -> str:
    """Refuse here what could be signed and anchored never."""
    try:
        return Checkpoint(text, 0, bytes(32)).origin
    except CheckpointError as error:
        raise ConfigError(f"node.origin: {error.message}") from error


def _engine(name: str) -> str:
    if name not in ENGINES:
        raise ConfigError(f"node.engine is {name!r:.40}, not one of {', '.join(ENGINES)}")
    return name


def _address(name: str, text: str) -> str:
    return checked_address(text, name) if text else ""


def _digest(name: str, text: str) -> bytes:
    try:
        digest = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise ConfigError(f"{name} must be 0x and 64 hexadecimal digits")
    return digest
