"""What was final once stays final: a chain that takes it back is not believed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.chain.settled import Settled
from registry.errors import ChainDisputedError, ChainStaleError
from tests.fakes.rpc_proxy import RpcProxy, rpc_proxy


@pytest.fixture
def proxy(restored: Devnet) -> Iterator[RpcProxy]:
    with rpc_proxy(restored.rpc_url) as proxy:
        yield proxy


@pytest.fixture(params=["finalized", 2])
def finality(request: pytest.FixtureRequest) -> str | int:
    value: str | int = request.param
    return value


def rewrite(devnet: Devnet, snapshot: object, blocks: int) -> None:
    """Go back to a snapshot and mine other blocks than before: their clock runs ahead."""
    devnet.revert(snapshot)
    devnet.pass_time(1000)
    devnet.mine(blocks - 1)


@pytest.mark.parametrize("blocks", [6, 9])
def test_a_final_block_that_became_another_is_disputed(
    restored: Devnet, finality: str | int, blocks: int
) -> None:
    settled = Settled(restored.chain, finality)
    snapshot = restored.snapshot()
    restored.mine(6)
    before = settled.newest()
    rewrite(restored, snapshot, blocks)
    with pytest.raises(ChainDisputedError, match=f"final block {before.number} of the chain"):
        settled.newest()
    with pytest.raises(ChainDisputedError) as caught:
        settled.newest()
    (_, was), (_, has) = caught.value.evidence
    assert was == f"0x{before.hash.hex()}" != has


def test_a_shorter_chain_with_another_history_is_disputed(
    restored: Devnet, finality: str | int
) -> None:
    settled = Settled(restored.chain, finality)
    snapshot = restored.snapshot()
    for _ in range(10):
        restored.mine()
        settled.newest()
    rewrite(restored, snapshot, 5)
    with pytest.raises(ChainDisputedError, match="and is 0x"):
        settled.newest()


def test_a_chain_that_lost_its_end_is_stale_and_is_believed_again_when_it_has_grown(
    restored: Devnet, proxy: RpcProxy, finality: str | int
) -> None:
    settled = Settled(Chain(proxy.url), finality)
    restored.mine(8)
    before = settled.newest()
    proxy.behind = 5
    with pytest.raises(ChainStaleError, match=f"block {before.number} was final before"):
        settled.newest()
    proxy.clear()
    assert settled.newest() == before
    restored.mine()
    assert settled.newest().number == before.number + 1


def test_the_final_block_does_not_go_back_with_an_endpoint_that_lags(
    restored: Devnet, proxy: RpcProxy, finality: str | int
) -> None:
    settled = Settled(Chain(proxy.url), finality)
    restored.mine(8)
    before = settled.newest()
    proxy.behind = 1
    assert settled.newest() == before


@pytest.mark.parametrize("finality", ["latest", 0])
def test_a_devnet_whose_head_counts_as_final_may_be_reset(
    restored: Devnet, finality: str | int
) -> None:
    settled = Settled(restored.chain, finality)
    snapshot = restored.snapshot()
    restored.mine(4)
    settled.newest()
    rewrite(restored, snapshot, 2)
    assert settled.newest() == restored.chain.head()


def test_the_final_block_grows_with_the_chain(restored: Devnet, finality: str | int) -> None:
    settled = Settled(restored.chain, finality)
    restored.mine(3)
    first = settled.newest()
    restored.mine(3)
    assert settled.newest().number == first.number + 3
    assert settled.newest() == restored.chain.block(finality)
