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


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(
        f"sqlite:///{tmp_path}/node.db",
        chain_id=31337,
        channels=CANONICAL_CHANNELS,
        node=NODE.address,
    ) as database:
        yield database


@pytest.fixture(scope="session")
def devnet() -> Iterator[Devnet]:
    with Devnet.start() as devnet:
        yield devnet


@pytest.fixture(scope="session")
def deployment(devnet: Devnet) -> Deployment:
    return deploy(devnet.chain, Signer.anvil(0, chain_id=31337))
