from __future__ import annotations

import socket
import time
from contextlib import closing

import pytest

from registry.errors import BlockCorruptError, BlockMissingError, BlockStoreError, ConfigError
from registry.ipfs.blockstore import LayeredBlockStore, MemoryBlockStore
from registry.ipfs.cid import RAW, Cid
from registry.ipfs.gateway import GatewayBlockStore
from tests.registry.ipfs.hostile_server import BLOCK

CID = Cid.of_block(RAW, BLOCK)
# Far more than an answer takes, even on a busy machine; and what a test of waiting waits.
TIMEOUT_S = 20.0
SHORT_S = 0.5


def fetch(url: str, timeout_s: float = TIMEOUT_S) -> bytes:
    with closing(GatewayBlockStore(url, timeout_s)) as gateway:
        return gateway.get(CID)


@pytest.mark.parametrize(
    "behaviour", ["html", "empty", "json", "gzip", "zipped", "endless", "declared"]
)
def test_a_gateway_that_sends_other_bytes_is_refused(hostile: str, behaviour: str) -> None:
    with pytest.raises(BlockCorruptError) as caught:
        fetch(f"{hostile}/{behaviour}")
    assert caught.value.cid == str(CID)


@pytest.mark.parametrize("behaviour", ["slow", "slowheaders", "silent"])
def test_a_gateway_that_never_ends_is_left_at_the_deadline(hostile: str, behaviour: str) -> None:
    start = time.monotonic()
    with pytest.raises(BlockStoreError, match=r"within 0\.5 s"):
        fetch(f"{hostile}/{behaviour}", SHORT_S)
    assert time.monotonic() - start < SHORT_S + 5


@pytest.mark.parametrize("behaviour", ["broken", "redirect", "hangup"])
def test_a_gateway_that_fails_or_sends_elsewhere_is_an_error(hostile: str, behaviour: str) -> None:
    with pytest.raises(BlockStoreError) as caught:
        fetch(f"{hostile}/{behaviour}")
    assert caught.value.hint


def test_a_gateway_that_is_not_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(BlockStoreError):
        fetch(f"http://127.0.0.1:{port}")


def test_a_block_the_gateway_lacks_is_missing(hostile: str) -> None:
    with pytest.raises(BlockMissingError):
        fetch(f"{hostile}/absent")
    with closing(GatewayBlockStore(f"{hostile}/absent", TIMEOUT_S)) as gateway:
        assert not gateway.has(CID)


@pytest.mark.parametrize(
    "url", ["", "gateway", "ftp://gateway/", "file:///etc/passwd", "http://", "http://x/?y"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        GatewayBlockStore(url)


def test_a_gateway_is_not_written_to(hostile: str) -> None:
    with closing(GatewayBlockStore(hostile)) as gateway, pytest.raises(BlockStoreError):
        gateway.put(RAW, b"x")


def test_the_next_gateway_is_asked_when_the_first_ones_fail(hostile: str) -> None:
    local = MemoryBlockStore()
    gateways = [
        GatewayBlockStore(f"{hostile}/{behaviour}", timeout_s)
        for behaviour, timeout_s in [
            ("html", TIMEOUT_S),
            ("broken", TIMEOUT_S),
            ("silent", SHORT_S),
            ("good", TIMEOUT_S),
        ]
    ]
    assert LayeredBlockStore([local, *gateways]).get(CID) == BLOCK
    assert local.get(CID) == BLOCK
    for gateway in gateways:
        gateway.close()


def test_a_good_gateway_delivers_over_and_over(hostile: str) -> None:
    with closing(GatewayBlockStore(f"{hostile}/good/", TIMEOUT_S)) as gateway:
        assert gateway.has(CID)
        assert [gateway.get(CID) for _ in range(5)] == [BLOCK] * 5
