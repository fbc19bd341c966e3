"""Models registered and verified on the devnet, ready for the loader."""

from __future__ import annotations

import pytest

from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference.shelf import Shelf


@pytest.fixture(scope="session")
def shelf(chain: Chain, deployment: Deployment, signers: list[Signer]) -> Shelf:
    return Shelf(chain, deployment, signers[1])


@pytest.fixture(autouse=True)
def _one_thread(torch: object) -> None:
    """Every test here computes on one thread."""
