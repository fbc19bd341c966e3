from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from registry.chain.revert import decode_revert


@pytest.mark.parametrize("data", [None, "", "0x", "no data", 7, {"a": 1}, b""])
def test_no_data_is_no_reason(data: object) -> None:
    assert decode_revert(data).text == "no reason given"


def test_an_error_nobody_knows_shows_its_bytes() -> None:
    assert decode_revert("0xdeadbeef").text == "unknown error 0xdeadbeef"


def test_a_known_selector_with_another_shape_shows_its_bytes() -> None:
    selector = keccak(b"UnknownParent(bytes32)")[:4]
    assert decode_revert(selector + b"\x01").text == f"unknown error 0x{selector.hex()}01"


def test_a_message_is_read() -> None:
    data = bytes.fromhex("08c379a0") + encode(["string"], ["not today"])
    assert decode_revert(data).text == "not today"
    assert decode_revert(f"0x{data.hex()}").text == "not today"


def test_a_panic_is_read() -> None:
    data = bytes.fromhex("4e487b71") + encode(["uint256"], [0x11])
    assert decode_revert(data).text == "panic 0x11"


def test_a_custom_error_is_read_with_its_values() -> None:
    address = "0x000000000000000000000000000000000000dEaD"
    data = keccak(b"NotPublisher(address,address)")[:4]
    data += encode(["address", "address"], [address, address])
    found = decode_revert(data)
    assert found.error == "NotPublisher"
    assert found.values == (address, address)
    assert found.text == f"NotPublisher({address}, {address})"
