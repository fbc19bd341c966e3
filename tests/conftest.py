"""What every test may ask for: a real devnet with our contracts, its keys, torch on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

from registry.chain.connection import Chain
from registry.chain.deploy import Deployment, deploy
from registry.chain.devnet import Devnet
from registry.signing.signer import ANVIL_CHAIN_ID, Signer
from tests.postgres import PostgresServer, binaries, started

# A shared machine may be slow at any moment; that is no failure of a property.
settings.register_profile(
    "weightproof", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("weightproof")


@pytest.fixture(scope="session")
def devnet() -> Iterator[Devnet]:
    """A real Anvil on a port of its own. Tests that move its clock use `restored`."""
    with Devnet.start() as running:
        yield running


@pytest.fixture(scope="session")
def chain(devnet: Devnet) -> Chain:
    return devnet.chain


@pytest.fixture(scope="session")
def signers() -> list[Signer]:
    """Anvil's ten accounts; each has 10,000 ether on the devnet. Number 0 deploys."""
    return [Signer.anvil(index, chain_id=ANVIL_CHAIN_ID) for index in range(10)]


@pytest.fixture(scope="session")
def deployment(chain: Chain, signers: list[Signer]) -> Deployment:
    return deploy(chain, signers[0])


@pytest.fixture
def restored(devnet: Devnet, deployment: Deployment) -> Iterator[Devnet]:
    """The devnet with our contracts; whatever the test does to the chain is undone."""
    snapshot = devnet.snapshot()
    yield devnet
    devnet.revert(snapshot)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real PostgreSQL server; `create` makes a database in it."""
    if binaries() is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: postgresql)")
    with started() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database; the test runs once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/node.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """Torch on one thread: two threads on busy cores are many times slower than one."""
    module = pytest.importorskip("torch")
    module.set_num_threads(1)
    return module
