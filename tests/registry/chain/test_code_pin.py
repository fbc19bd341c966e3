"""The contracts that decide must be what was compiled, and stay it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import solcx
from eth_hash.auto import keccak

from registry.chain.artifact import load
from registry.chain.attestations import AttestationBook
from registry.chain.code_pin import Code, CodePin, pin, read_code
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment, deploy
from registry.chain.devnet import Devnet
from registry.chain.model_registry import ModelRegistry
from registry.errors import ChainDisputedError, ChainMismatchError
from registry.signing.signer import Signer
from scripts.compile_contracts import COMPILER, ROOT, SETTINGS, SOURCES

IMPLEMENTATION = keccak(b"eip1967.proxy.implementation")
BEACON = keccak(b"eip1967.proxy.beacon")
ELSEWHERE = "0x00000000000000000000000000000000000A11cE"
# An EIP-1167-like stub that hands every call on; what it runs does not matter to a pin.
STUB = bytes.fromhex("363d3d373d3d3d363d5af43d82803e903d91602b57fd5bf3")
Pin = Callable[..., CodePin]


def slot(name: bytes) -> str:
    return hex(int.from_bytes(name, "big") - 1)


def store(chain: Chain, address: str, where: str, value: str) -> None:
    word = "0x" + value.removeprefix("0x").rjust(64, "0")
    chain.rpc("anvil_setStorageAt", address, where, word)
    chain.rpc("anvil_mine", "0x1")


def put(devnet: Devnet, address: str, code: bytes) -> None:
    devnet.set_code(address, code)
    devnet.mine()


@pytest.fixture
def pinned(restored: Devnet, deployment: Deployment) -> Pin:
    """Pin the registry, at its own address unless another is given."""

    def take(address: str = deployment.model_registry, **more: Any) -> CodePin:
        domain = ModelRegistry(restored.chain, address).domain
        return pin(restored.chain, "ModelRegistry", address, domain=domain, **more)

    return take


def book_pin(chain: Chain, deployment: Deployment, **more: Any) -> CodePin:
    book = AttestationBook(chain, deployment.attestations)
    holds = more.pop("holds", (deployment.model_registry,))
    return pin(chain, "Attestations", book.address, domain=book.domain, holds=holds, **more)


def test_an_address_without_code_is_refused(pinned: Pin) -> None:
    with pytest.raises(ChainMismatchError, match="there is no ModelRegistry contract"):
        pinned(ELSEWHERE)


@pytest.mark.parametrize("at", [0, 1000, -1])
def test_one_other_byte_of_code_is_refused(
    restored: Devnet, deployment: Deployment, pinned: Pin, at: int
) -> None:
    code = bytearray(restored.chain.code(deployment.model_registry))
    code[at] ^= 1
    put(restored, deployment.model_registry, bytes(code))
    with pytest.raises(ChainMismatchError, match="is not the ModelRegistry of this version"):
        pinned()


@pytest.mark.parametrize("change", [lambda code: code[:-1], lambda code: code + b"\0"])
def test_shorter_or_longer_code_is_refused(
    restored: Devnet, deployment: Deployment, pinned: Pin, change: Callable[[bytes], bytes]
) -> None:
    code = restored.chain.code(deployment.model_registry)
    put(restored, deployment.model_registry, change(code))
    with pytest.raises(ChainMismatchError, match="not the ModelRegistry"):
        pinned()


@pytest.mark.parametrize("which", range(7))
def test_one_other_value_that_the_constructor_wrote_is_refused(
    restored: Devnet, deployment: Deployment, pinned: Pin, which: int
) -> None:
    code = bytearray(restored.chain.code(deployment.model_registry))
    code[load("ModelRegistry").immutables[which] + 31] ^= 1
    put(restored, deployment.model_registry, bytes(code))
    with pytest.raises(ChainMismatchError, match="not the ModelRegistry"):
        pinned()


def test_attestations_that_look_at_another_registry_are_refused(
    restored: Devnet, deployment: Deployment, signers: list[Signer]
) -> None:
    other = deploy(restored.chain, signers[0])
    with pytest.raises(ChainMismatchError, match="not the Attestations of this version"):
        book_pin(restored.chain, deployment, holds=(other.model_registry,))
    book_pin(restored.chain, deployment)


def test_a_copy_at_another_address_is_refused(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    put(restored, ELSEWHERE, restored.chain.code(deployment.model_registry))
    with pytest.raises(ChainMismatchError, match="not the ModelRegistry"):
        pinned(ELSEWHERE)


def test_a_proxy_is_refused_unless_its_fingerprint_is_named_and_then_may_not_be_upgraded(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    put(restored, ELSEWHERE, STUB)
    store(restored.chain, ELSEWHERE, slot(IMPLEMENTATION), deployment.model_registry)
    with pytest.raises(ChainMismatchError, match=r"a proxy of 0x\w{40} \(EIP-1967\)") as caught:
        pinned(ELSEWHERE)
    found = read_code(restored.chain, ELSEWHERE, None, borrows=True)
    assert found.fingerprint.hex() in caught.value.message
    assert found.borrows == deployment.model_registry
    proxy = pinned(ELSEWHERE, expected=found.fingerprint)
    proxy.check(restored.chain, restored.chain.head())
    store(restored.chain, ELSEWHERE, slot(IMPLEMENTATION), deployment.attestations)
    with pytest.raises(ChainDisputedError, match="the code of ModelRegistry"):
        proxy.check(restored.chain, restored.chain.head())
    with pytest.raises(ChainMismatchError):
        pinned(ELSEWHERE, expected=found.fingerprint)


def test_new_code_behind_a_pinned_proxy_is_disputed(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    put(restored, ELSEWHERE, STUB)
    store(restored.chain, ELSEWHERE, slot(IMPLEMENTATION), deployment.model_registry)
    found = read_code(restored.chain, ELSEWHERE, None, borrows=True)
    proxy = pinned(ELSEWHERE, expected=found.fingerprint)
    put(restored, deployment.model_registry, STUB)
    with pytest.raises(ChainDisputedError):
        proxy.check(restored.chain, restored.chain.head())


def test_a_fingerprint_covers_the_code_the_lender_and_the_code_it_lends() -> None:
    other = "0x00000000000000000000000000000000000000Ff"
    seen = {
        code.fingerprint
        for code in (
            Code(STUB),
            Code(STUB, ELSEWHERE, b"one"),
            Code(STUB, other, b"one"),
            Code(STUB, ELSEWHERE, b"two"),
            Code(b"\x00" + STUB, ELSEWHERE, b"one"),
        )
    }
    assert len(seen) == 5
    assert keccak(STUB) in seen


def test_a_beacon_proxy_is_refused_whatever_is_named(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    put(restored, ELSEWHERE, STUB)
    store(restored.chain, ELSEWHERE, slot(BEACON), deployment.model_registry)
    for expected in (None, keccak(STUB)):
        with pytest.raises(ChainMismatchError, match="beacon proxy"):
            pinned(ELSEWHERE, expected=expected)


def test_an_account_that_delegates_is_refused(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    delegation = bytes.fromhex("ef0100" + deployment.model_registry[2:])
    put(restored, ELSEWHERE, delegation)
    with pytest.raises(ChainMismatchError, match=r"delegates to 0x\w{40} \(EIP-7702\)"):
        pinned(ELSEWHERE)
    found = read_code(restored.chain, ELSEWHERE, None, borrows=True)
    assert pinned(ELSEWHERE, expected=found.fingerprint).pinned.borrows == deployment.model_registry


def test_another_fingerprint_than_the_one_that_is_named_is_refused(pinned: Pin) -> None:
    with pytest.raises(ChainMismatchError, match="fingerprint"):
        pinned(expected=b"\x01" * 32)


def test_code_that_changes_after_it_was_pinned_is_disputed_from_that_block_on(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    contract = pinned()
    before = restored.chain.head()
    restored.mine()  # Anvil's own methods change the newest block, not the next
    put(restored, deployment.model_registry, STUB)
    with pytest.raises(ChainDisputedError, match="changed from 0x") as caught:
        contract.check(restored.chain, restored.chain.head())
    assert dict(caught.value.evidence)[restored.chain.host] == f"0x{keccak(STUB).hex()}"
    contract.check(restored.chain, before)


def test_a_contract_that_is_not_final_yet_is_no_dispute(
    restored: Devnet, pinned: Pin, deployment: Deployment
) -> None:
    with pytest.raises(ChainMismatchError, match="at this block"):
        pinned().check(restored.chain, restored.chain.block_at(0))


def test_what_was_deployed_is_what_was_compiled(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    for contract in (pinned(), book_pin(restored.chain, deployment)):
        contract.check(restored.chain, restored.chain.head())
        code = restored.chain.code(contract.address)
        assert contract.pinned.fingerprint == keccak(code)
        assert not contract.pinned.borrows


def test_code_of_ours_may_be_named_too(
    restored: Devnet, deployment: Deployment, pinned: Pin
) -> None:
    code = restored.chain.code(deployment.model_registry)
    assert pinned(expected=keccak(code)).pinned.code == code


def test_a_chain_that_took_another_id_keeps_its_contracts(
    signers: list[Signer],
) -> None:
    with Devnet.start() as net:
        deployment = deploy(net.chain, signers[0])
        net.chain.rpc("anvil_setChainId", 8453)
        chain = Chain(net.rpc_url)
        assert chain.chain_id == 8453
        book_pin(chain, deployment).check(chain, chain.head())


def test_the_places_that_constructors_write_to_are_those_the_compiler_lists() -> None:
    wanted = {
        "*": {"*": ["evm.deployedBytecode.object", "evm.deployedBytecode.immutableReferences"]}
    }
    names = ["ModelRegistry", "Attestations"]
    output = solcx.compile_standard(
        {
            "language": "Solidity",
            "sources": {
                SOURCES[name]: {"content": (ROOT / SOURCES[name]).read_text()} for name in names
            },
            "settings": {**SETTINGS, "outputSelection": wanted},
        },
        base_path=ROOT,
        solc_binary=COMPILER,
    )
    for name in names:
        compiled = output["contracts"][SOURCES[name]][name]["evm"]["deployedBytecode"]
        references = compiled["immutableReferences"].values()
        listed = sorted(place["start"] for places in references for place in places)
        assert list(load(name).immutables) == listed
        assert all(place["length"] == 32 for places in references for place in places)
