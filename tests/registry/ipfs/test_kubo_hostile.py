"""What the RPC address may lead to instead of an IPFS node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from registry.errors import BlockCorruptError, BlockMissingError, BlockStoreError, ConfigError
from registry.ipfs.bounded_http import BoundedHttp
from registry.ipfs.cid import RAW, Cid
from registry.ipfs.kubo import KuboBlockStore
from tests.registry.ipfs.hostile_server import BLOCK, misbehaving

CID = Cid.of_block(RAW, BLOCK)


@contextmanager
def node(behaviour: str, timeout_s: float = 20.0) -> Iterator[KuboBlockStore]:
    """A store whose node answers every call in one way."""
    with misbehaving(behaviour) as origin:
        port = origin.rsplit(":", 1)[1]
        with closing(KuboBlockStore(f"/ip4/127.0.0.1/tcp/{port}", timeout_s=timeout_s)) as kubo:
            yield kubo


@pytest.mark.parametrize(
    "address", ["", "localhost:5001", "/ip4/1.2.3.4", "/tcp/1", "/ip4/x/tcp/1"]
)
def test_an_address_that_is_no_multiaddr_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        KuboBlockStore(address)


def test_a_node_that_is_not_there_is_an_error_and_not_a_missing_block() -> None:
    with closing(KuboBlockStore("/ip4/127.0.0.1/tcp/1", timeout_s=0.5)) as kubo:
        for call in (lambda: kubo.get(CID), lambda: kubo.has(CID), lambda: kubo.put(RAW, b"x")):
            with pytest.raises(BlockStoreError):
                call()


@pytest.mark.parametrize("behaviour", ["html", "json", "empty", "gzip", "zipped"])
def test_other_bytes_are_refused(behaviour: str) -> None:
    with node(behaviour) as kubo, pytest.raises(BlockCorruptError):
        kubo.get(CID)


@pytest.mark.parametrize("behaviour", ["endless", "declared", "hangup"])
def test_an_answer_too_large_or_cut_off_is_an_error(behaviour: str) -> None:
    with node(behaviour) as kubo, pytest.raises(BlockStoreError):
        kubo.get(CID)


@pytest.mark.parametrize("behaviour", ["slow", "slowheaders", "silent", "broken"])
def test_a_block_that_does_not_come_in_time_is_missing(behaviour: str) -> None:
    start = time.monotonic()
    with node(behaviour, timeout_s=0.5) as kubo, pytest.raises(BlockMissingError) as caught:
        kubo.get(CID)
    assert str(caught.value).isprintable()
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("behaviour", ["html", "json", "empty", "renamed", "broken", "silent"])
def test_a_put_that_is_not_acknowledged_by_name_is_an_error(behaviour: str) -> None:
    with node(behaviour, timeout_s=0.5) as kubo, pytest.raises(BlockStoreError):
        kubo.put(RAW, BLOCK)


def test_an_exchange_leaves_no_connection_behind_when_it_is_forgotten(hostile: str) -> None:
    http = BoundedHttp(20.0)
    assert http.exchange("GET", f"{hostile}/html", max_bytes=100).status == 200
    del http  # an open socket would warn, and warnings fail tests
