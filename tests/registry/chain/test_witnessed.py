"""Several endpoints must say the same, or nothing is believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.chain.witnessed import WitnessedChain
from registry.errors import (
    ChainDisputedError,
    ChainMismatchError,
    ChainUnreachableError,
    TransactionFailedError,
)
from registry.record import Kind, record_id
from registry.signing.signer import Signer
from tests.fakes.rpc_proxy import RpcProxy, other_result, refusing, rpc_proxy

DIGEST = b"\x0b" * 32


@pytest.fixture
def witness(restored: Devnet) -> Iterator[RpcProxy]:
    with rpc_proxy(restored.rpc_url) as proxy:
        yield proxy


@pytest.fixture
def both(restored: Devnet, witness: RpcProxy) -> WitnessedChain:
    return WitnessedChain(restored.rpc_url, [witness.url], 5.0, chain_id=31337)


@pytest.fixture
def record(restored: Devnet, deployment: Deployment, signers: list[Signer]) -> bytes:
    registry = ModelRegistry(restored.chain, deployment.model_registry)
    registry.register(signers[1], Kind.DATASET, DIGEST, [])
    return record_id(signers[1].address, DIGEST)


def flipped(result: str) -> str:
    return result[:-1] + ("0" if result[-1] != "0" else "1")


def test_a_record_that_two_endpoints_tell_differently_is_refused_with_both_values(
    both: WitnessedChain, witness: RpcProxy, deployment: Deployment, record: bytes
) -> None:
    witness.bend = other_result("eth_call", flipped, data=record.hex())
    with pytest.raises(ChainDisputedError, match=r"disagree about record at block \d+") as caught:
        ModelRegistry(both, deployment.model_registry).record(record, block=both.block())
    (first, one), (second, other) = caught.value.evidence
    assert first == both.host != second
    assert second in witness.url
    assert flipped(one) == other
    assert first in caught.value.message
    assert second in caught.value.message


def test_the_witness_is_believed_no_more_than_the_first_endpoint(
    restored: Devnet, witness: RpcProxy, deployment: Deployment, record: bytes
) -> None:
    chain = WitnessedChain(witness.url, [restored.rpc_url], 5.0, chain_id=31337)
    witness.bend = other_result("eth_call", flipped, data=record.hex())
    with pytest.raises(ChainDisputedError):
        ModelRegistry(chain, deployment.model_registry).record(record, block=chain.block())


def test_a_third_endpoint_that_lies_alone_is_enough_to_refuse(
    restored: Devnet, witness: RpcProxy, deployment: Deployment, record: bytes
) -> None:
    chain = WitnessedChain(restored.rpc_url, [restored.rpc_url, witness.url], 5.0, chain_id=31337)
    witness.bend = other_result("eth_call", flipped, data=record.hex())
    with pytest.raises(ChainDisputedError) as caught:
        ModelRegistry(chain, deployment.model_registry).record(record, block=chain.block())
    assert len(caught.value.evidence) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block | {"hash": "0x" + "ab" * 32},
        lambda block: block | {"timestamp": hex(int(block["timestamp"], 16) + 1)},
    ],
)
def test_a_block_with_another_hash_or_time_at_one_endpoint_is_refused(
    both: WitnessedChain, witness: RpcProxy, record: bytes, change: Any
) -> None:
    witness.bend = other_result("eth_getBlockByNumber", change)
    with pytest.raises(ChainDisputedError, match="disagree about block"):
        both.block()
    with pytest.raises(ChainDisputedError, match="disagree about block 1"):
        both.block_at(1)


def test_code_and_storage_that_differ_are_refused(
    both: WitnessedChain, witness: RpcProxy, deployment: Deployment
) -> None:
    block = both.block()
    witness.bend = other_result("eth_getCode", flipped)
    with pytest.raises(ChainDisputedError, match="eth_getCode"):
        both.code(deployment.model_registry, block)
    witness.bend = other_result("eth_getStorageAt", flipped)
    with pytest.raises(ChainDisputedError, match="eth_getStorageAt"):
        both.storage(deployment.model_registry, 0, block)


def test_where_one_endpoint_answers_and_the_other_refuses_nothing_is_believed(
    both: WitnessedChain, witness: RpcProxy, deployment: Deployment, record: bytes
) -> None:
    reverted = {"code": 3, "message": "execution reverted", "data": "0x"}
    witness.bend = refusing("eth_call", reverted, data=record.hex())
    with pytest.raises(ChainDisputedError, match="says reverted"):
        ModelRegistry(both, deployment.model_registry).record(record, block=both.block())


def test_what_every_endpoint_refuses_is_refused_as_by_one(
    both: WitnessedChain, witness: RpcProxy, deployment: Deployment
) -> None:
    witness.bend = refusing(
        "eth_call", {"code": 3, "message": "execution reverted: in other words", "data": "0x"}
    )
    contract = both.contract("ModelRegistry", deployment.model_registry)
    function = contract.functions.revoke(b"\x01" * 32, "x")
    with pytest.raises(TransactionFailedError, match="revoke reverted"):
        both.call(function, both.block())


def test_silence_is_no_agreement(
    both: WitnessedChain, witness: RpcProxy, deployment: Deployment, record: bytes
) -> None:
    block = both.block()
    registry = ModelRegistry(both, deployment.model_registry)
    registry.record(record, block=block)
    witness.dark = True
    with pytest.raises(ChainUnreachableError):
        both.block()
    with pytest.raises(ChainUnreachableError):
        registry.record(record, block=block)


def test_a_witness_of_another_chain_is_refused(restored: Devnet, witness: RpcProxy) -> None:
    witness.bend = other_result("eth_chainId", lambda _: "0x1")
    chain = WitnessedChain(restored.rpc_url, [witness.url], 5.0, chain_id=31337)
    with pytest.raises(ChainMismatchError, match="serves chain 1, not 31337"):
        _ = chain.chain_id


def test_the_path_of_an_address_is_in_no_dispute(restored: Devnet, witness: RpcProxy) -> None:
    chain = WitnessedChain(restored.rpc_url, [f"{witness.url}/v3/hush"], 5.0, chain_id=31337)
    witness.bend = other_result("eth_getBlockByNumber", lambda b: b | {"hash": "0x" + "ab" * 32})
    with pytest.raises(ChainDisputedError) as caught:
        chain.block()
    assert "hush" not in str(caught.value) + repr(caught.value.evidence) + repr(chain)


def test_the_final_block_is_the_highest_that_all_have(
    restored: Devnet, both: WitnessedChain, witness: RpcProxy
) -> None:
    restored.mine(6)
    head = restored.chain.head().number
    witness.behind = 3
    assert both.block() == restored.chain.block_at(head - 3)
    assert both.block(1) == restored.chain.block_at(head - 4)
    assert both.block("finalized") == restored.chain.block_at(head - 5)


def test_questions_about_now_are_asked_of_the_first_endpoint_only(
    both: WitnessedChain, witness: RpcProxy, deployment: Deployment, record: bytes
) -> None:
    registry = ModelRegistry(both, deployment.model_registry)
    registry.record(record, block=both.block())
    before = len(witness.asked)
    assert registry.record(record).manifest_digest == DIGEST
    assert both.head() == Chain.head(both)
    assert len(witness.asked) == before


def test_endpoints_that_agree_answer_as_one(
    restored: Devnet, both: WitnessedChain, deployment: Deployment, record: bytes
) -> None:
    block = both.block()
    assert block == restored.chain.head()
    one = ModelRegistry(restored.chain, deployment.model_registry)
    two = ModelRegistry(both, deployment.model_registry)
    assert two.record(record, block=block) == one.record(record, block=block)
