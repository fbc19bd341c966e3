"""A database and a devnet for the payment tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.database import Database
from registry.chain.deploy import CANONICAL_CHANNELS, Deployment, deploy
from registry.chain.devnet import Devnet
from registry.signing.signer import Signer
from tests.inference.payments.payer import NODE


def _open(folder: Path) -> Database:
    return Database(
        f"sqlite:///{folder}/node.db",
        chain_id=31337,
        channels=CANONICAL_CHANNELS,
        node=NODE.address,
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with _open(tmp_path) as database:
        yield database


@pytest.fixture
def successor(database: Database, tmp_path: Path) -> Iterator[Database]:
    """The same database, as the node opens it that comes after."""
    with _open(tmp_path) as successor:
        yield successor


@pytest.fixture(scope="session")
def devnet() -> Iterator[Devnet]:
    with Devnet.start() as devnet:
        yield devnet


@pytest.fixture(scope="session")
def deployment(devnet: Devnet) -> Deployment:
    return deploy(devnet.chain, Signer.anvil(0, chain_id=31337))
