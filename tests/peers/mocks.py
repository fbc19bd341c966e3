"""Contracts of others, put on a devnet: wallets, their factory, Multicall3 (`contracts/mocks`)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from registry.chain.connection import Chain
from registry.signing.signer import Signer
from scripts.compile_contracts import compile_sources

_MOCKS = Path(__file__).parents[2] / "contracts" / "mocks"


@cache
def bytecode(name: str) -> bytes:
    """Return the creation code of a mock."""
    names = ("ContractWallet", "GreedyWallet", "TryAggregate", "WalletFactory")
    sources = {f"contracts/mocks/{n}.sol": (_MOCKS / f"{n}.sol").read_text() for n in names}
    made = _compiled(tuple(sources.items()))[f"contracts/mocks/{name}.sol"][name]
    return bytes.fromhex(made["evm"]["bytecode"]["object"])


@cache
def _compiled(sources: tuple[tuple[str, str], ...]) -> dict[str, dict[str, Any]]:
    return compile_sources(dict(sources))


def put(chain: Chain, sender: Signer, name: str, types: list[str], *arguments: object) -> str:
    """Deploy a mock; return its address."""
    data = bytecode(name) + encode(types, arguments)
    raw = chain.rpc("eth_sendTransaction", {"from": sender.address, "data": "0x" + data.hex()})
    tx_hash = bytes.fromhex(str(raw).removeprefix("0x"))
    while (receipt := chain.receipt(tx_hash)) is None:
        pass
    assert receipt.contract is not None
    return to_checksum_address(receipt.contract)


def future_wallet(factory: str, key: str) -> tuple[str, str]:
    """Return where a factory will put the wallet of a key, and the 0x… call that makes it."""
    code = keccak(bytecode("ContractWallet") + encode(["address"], [key]))
    where = keccak(b"\xff" + bytes.fromhex(factory[2:]) + bytes(32) + code)[-20:]
    making = keccak(b"make(address)")[:4] + encode(["address"], [key])
    return to_checksum_address(where), "0x" + making.hex()
