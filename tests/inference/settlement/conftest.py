"""A devnet of its own for settlement: it is warped, and mines when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.chain.deploy import Deployment, deploy
from registry.chain.devnet import Devnet
from registry.chain.fees import GWEI
from registry.signing.signer import Signer
from tests.inference.settlement.stall import Stall


@pytest.fixture(scope="package")
def devnet() -> Iterator[Devnet]:
    with Devnet.start() as devnet:
        yield devnet


@pytest.fixture(scope="package")
def deployment(devnet: Devnet) -> Deployment:
    return deploy(devnet.chain, Signer.anvil(0, chain_id=31337))


@pytest.fixture
def stall(devnet: Devnet, deployment: Deployment, tmp_path: Path) -> Iterator[Stall]:
    """A stall on the devnet; whatever a test does to the chain is undone."""
    snapshot = devnet.snapshot()
    stall = Stall(devnet, deployment, tmp_path)
    yield stall
    stall.database.close()
    devnet.chain.rpc("anvil_dropAllTransactions")
    devnet.chain.rpc("evm_setAutomine", True)
    devnet.revert(snapshot)
    devnet.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
