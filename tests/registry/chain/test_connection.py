from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest

from registry.chain.block import Block
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.endpoint import MAX_ANSWER_BYTES
from registry.chain.model_registry import ModelRegistry
from registry.errors import (
    ChainMismatchError,
    ChainUnreachableError,
    ConfigError,
    KeyRefusedError,
    TransactionFailedError,
    TransactionUnknownError,
)
from registry.record import Kind
from registry.signing.signer import Signer
from tests.registry.chain.rpc_server import body, result, rpc_server


def test_an_address_that_is_not_http_is_refused() -> None:
    for address in ("", "127.0.0.1:8545", "ws://127.0.0.1:8545", "http://"):
        with pytest.raises(ConfigError):
            Chain(address)


def test_an_endpoint_where_nobody_listens_is_unreachable() -> None:
    with pytest.raises(ChainUnreachableError, match=r"127\.0\.0\.1:9"):
        Chain("http://127.0.0.1:9", 1.0).head()


def test_the_secret_part_of_an_address_is_never_shown() -> None:
    chain = Chain("http://user:hush@127.0.0.1:9/v3/secret-key", 1.0)
    with pytest.raises(ChainUnreachableError) as caught:
        chain.head()
    assert "secret-key" not in str(caught.value) + repr(chain)
    assert "hush" not in str(caught.value) + repr(chain)


@pytest.mark.parametrize(
    "answer",
    [
        body(b"<html>welcome</html>"),
        body(b"busy", status=503),
        body(b"", status=302, Location="http://127.0.0.1:9/"),
        body(b'{"jsonrpc":"2.0","id":1,"result":"0x1"}', Content_Encoding="gzip"),
        body(b"[]"),
        body(b"{}"),
        body(b'"0x1"'),
        body(b'{"jsonrpc":"2.0","id":1}'),
        body(b"[" * 100_000),
        body(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"limit exceeded"}}'),
        body(b'{"jsonrpc":"2.0","id":1,"error":"no"}'),
        body(b'{"jsonrpc":"2.0","id":1,"error":null}'),
        result(None),
        result("zzz"),
        result({"number": "0x1"}),
        result([]),
        result({"number": [], "hash": 3, "timestamp": None}),
    ],
)
def test_an_answer_that_is_no_json_rpc_answer_is_unreachable(answer: object) -> None:
    with rpc_server(answer) as address, pytest.raises((ChainUnreachableError, ChainMismatchError)):
        Chain(address, 2.0).head()


def test_an_endless_answer_is_cut_off() -> None:
    def endless(handler: BaseHTTPRequestHandler, question: dict[str, object]) -> None:
        handler.send_response(200)
        handler.end_headers()
        piece = b" " * 1024 * 1024
        try:
            for _ in range(2 * MAX_ANSWER_BYTES // len(piece)):
                handler.wfile.write(piece)
        except OSError:
            pass

    with rpc_server(endless) as address, pytest.raises(ChainUnreachableError, match="larger"):
        Chain(address, 20.0).head()


def test_a_dripping_answer_is_cut_off_in_time() -> None:
    def dripping(handler: BaseHTTPRequestHandler, question: dict[str, object]) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(100):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    begun = time.monotonic()
    with rpc_server(dripping) as address, pytest.raises(ChainUnreachableError):
        Chain(address, 0.3).head()
    assert time.monotonic() - begun < 3


def test_another_chain_than_expected_is_refused(devnet: Devnet) -> None:
    with pytest.raises(ChainMismatchError, match="31337, not 1"):
        _ = Chain(devnet.rpc_url, chain_id=1).chain_id


def test_a_published_key_is_refused_off_the_devnet(
    deployment: Deployment, devnet: Devnet, signers: list[Signer]
) -> None:
    function = ModelRegistry(devnet.chain, deployment.model_registry)._contract().functions
    with rpc_server(result("0x1")) as address, pytest.raises(KeyRefusedError, match="published"):
        Chain(address).send(signers[0], function.revoke(bytes(32), ""))


@pytest.mark.parametrize(
    "address",
    [
        "0x000000000000000000000000000000000000dEaD",
        "0x000000000000000000000000000000000000dead",
        "0x12",
        "",
    ],
)
def test_an_address_without_a_contract_is_refused(chain: Chain, address: str) -> None:
    with pytest.raises(ChainMismatchError):
        chain.contract("ModelRegistry", address)


def test_an_artifact_that_does_not_exist_is_refused(chain: Chain, deployment: Deployment) -> None:
    with pytest.raises(ConfigError, match="no compiled contract"):
        chain.contract("Nothing", deployment.model_registry)


def test_another_contract_at_the_address_is_refused(
    restored: Devnet, deployment: Deployment
) -> None:
    # It answers every call with the word one: no record has that shape.
    address = "0x0000000000000000000000000000000000001234"
    restored.set_code(address, bytes.fromhex("600160005260206000f3"))
    with pytest.raises(ChainMismatchError, match="does not answer record"):
        ModelRegistry(restored.chain, address).record(bytes(32))


def test_a_question_about_a_block_that_was_reorganised_away_is_refused(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    registry = ModelRegistry(restored.chain, deployment.model_registry)
    registry.register(signers[1], Kind.DATASET, b"\x01" * 32, [])
    block = restored.chain.head()
    restored.chain.rpc("anvil_rollback", 1)
    with pytest.raises(ChainMismatchError, match="does not have the block"):
        registry.find(bytes(32), block=block)
    with pytest.raises(ChainMismatchError):
        registry.find(bytes(32), block=block.number + 1000)
    with pytest.raises(ChainMismatchError):
        registry.find(bytes(32), block=Block(block.number, b"\x02" * 32, 0))


def test_a_refused_transaction_carries_the_decoded_error(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    registry = ModelRegistry(restored.chain, deployment.model_registry)
    parent = b"\x07" * 32
    with pytest.raises(TransactionFailedError) as caught:
        registry.register(signers[1], Kind.DATASET, b"\x01" * 32, [parent])
    assert caught.value.error == "UnknownParent"
    assert caught.value.values == (parent,)
    assert caught.value.reason == f"UnknownParent(0x{parent.hex()})"


def test_a_transaction_that_was_mined_and_reverted_says_why(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    contract = ModelRegistry(restored.chain, deployment.model_registry)._contract()
    before = restored.chain.head().number
    with pytest.raises(TransactionFailedError) as caught:
        restored.chain.send(signers[1], contract.functions.register(1, bytes(32), []), gas=200_000)
    assert caught.value.error == "ZeroDigest"
    assert restored.chain.head().number == before + 1


def test_a_sender_without_ether_is_told_so(restored: Devnet, deployment: Deployment) -> None:
    registry = ModelRegistry(restored.chain, deployment.model_registry)
    with pytest.raises(TransactionFailedError, match=r"[Ii]nsufficient funds") as caught:
        registry.register(Signer.random(), Kind.DATASET, b"\x01" * 32, [])
    assert "gas" in caught.value.hint


def test_a_transaction_that_is_not_mined_in_time_is_unknown_and_found_later(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    chain = Chain(restored.rpc_url, receipt_timeout_s=0.2)
    registry = ModelRegistry(chain, deployment.model_registry)
    chain.rpc("evm_setAutomine", False)
    try:
        with pytest.raises(TransactionUnknownError) as caught:
            registry.register(signers[1], Kind.DATASET, b"\x01" * 32, [])
        assert chain.receipt(caught.value.tx_hash) is None
        restored.mine()
        receipt = chain.receipt(caught.value.tx_hash)
        assert receipt is not None
        assert receipt.hash == caught.value.tx_hash
    finally:
        chain.rpc("evm_setAutomine", True)


def test_threads_with_one_key_and_two_connections_do_not_collide(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    books = [ModelRegistry(Chain(restored.rpc_url), deployment.model_registry) for _ in range(2)]

    def register(number: int) -> int:
        digest = number.to_bytes(32, "big")
        return books[number % 2].register(signers[2], Kind.DATASET, digest, []).block

    with ThreadPoolExecutor(6) as pool:
        blocks = list(pool.map(register, range(1, 25)))
    assert len(set(blocks)) == 24


def test_blocks_are_named_by_finality(restored: Devnet) -> None:
    restored.mine(5)
    chain = restored.chain
    head = chain.head()
    assert chain.block("latest") == chain.block(0) == head
    assert chain.block(3) == chain.block_at(head.number - 3)
    assert chain.block("finalized").number == head.number - 2
    assert chain.block(10**9).number == 0


def test_events_are_read_back_and_filtered(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    registry = ModelRegistry(restored.chain, deployment.model_registry)
    first = registry.register(signers[1], Kind.DATASET, b"\x01" * 32, [])
    registry.register(signers[2], Kind.DATASET, b"\x02" * 32, [])
    found = restored.chain.events(
        "ModelRegistry",
        registry.address,
        "Registered",
        where={"publisher": signers[1].address},
        from_block=first.block,
    )
    assert [event.values["manifestDigest"] for event in found] == [b"\x01" * 32]
    assert found[0].values["publisher"] == signers[1].address
    assert found == restored.chain.events_in(first, "ModelRegistry", registry.address, "Registered")
    revoked = restored.chain.events(
        "ModelRegistry", registry.address, "Revoked", from_block=first.block
    )
    assert revoked == []
