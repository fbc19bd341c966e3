"""PaymentChannels and its collector are, name for name, the contracts that x402 clients expect.

The vectors were taken from the official clients. What the code *does* with them is tried in
Solidity (`PaymentChannelsVectors.t.sol`); here the shipped artifact is compared, and asked.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak
from web3 import HTTPProvider, Web3
from web3.types import RPCEndpoint

from registry.chain.devnet import Devnet

ROOT = Path(__file__).parent.parent.parent
ARTIFACTS = ROOT / "registry" / "chain" / "artifacts"
VECTORS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "x402_vectors.json").read_text())
CHANNELS = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
CONFIG_TYPE = "(address,address,address,address,address,uint40,bytes32)"
CLAIM_TYPE = f"(({CONFIG_TYPE},uint128),bytes,uint128)"


def artifact(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ARTIFACTS / f"{name}.json").read_text())
    return loaded


def spelled(item: dict[str, Any]) -> str:
    """Spell an argument's type as a signature does: a struct as its members in brackets."""
    if not item["type"].startswith("tuple"):
        return str(item["type"])
    members = ",".join(spelled(member) for member in item["components"])
    return f"({members})" + item["type"].removeprefix("tuple")


def signatures(name: str, kind: str) -> dict[str, dict[str, Any]]:
    return {
        f"{item['name']}({','.join(spelled(argument) for argument in item['inputs'])})": item
        for item in artifact(name)["abi"]
        if item["type"] == kind
    }


def selector(signature: str) -> str:
    return "0x" + keccak(signature.encode())[:4].hex()


def test_the_functions_are_exactly_the_published_ones() -> None:
    found = {name: selector(name) for name in signatures("PaymentChannels", "function")}
    assert found == VECTORS["functions"]


def test_the_errors_are_exactly_the_published_ones() -> None:
    found = {name: selector(name) for name in signatures("PaymentChannels", "error")}
    assert found == VECTORS["errors"]


def test_the_events_are_exactly_the_published_ones() -> None:
    found = {
        name: {
            "topic0": "0x" + keccak(name.encode()).hex(),
            "indexed": [argument["name"] for argument in item["inputs"] if argument["indexed"]],
            "args": [argument["name"] for argument in item["inputs"]],
        }
        for name, item in signatures("PaymentChannels", "event").items()
    }
    assert found == VECTORS["events"]


def test_the_collector_is_exactly_the_published_one() -> None:
    name = "ERC3009DepositCollector"
    both = {**signatures(name, "function"), **signatures(name, "error")}
    assert {each: selector(each) for each in both} == VECTORS["collector_erc3009"]


class CanonicalCode:
    """The shipped code, run at the address that clients expect, without deploying anything."""

    def __init__(self, rpc_url: str) -> None:
        self._provider = HTTPProvider(rpc_url)
        created = self._request({"data": artifact("PaymentChannels")["bytecode"]}, {})
        self._override = {CHANNELS: {"code": created}}

    def _request(self, call: dict[str, str], override: dict[str, Any]) -> str:
        answer = self._provider.make_request(RPCEndpoint("eth_call"), [call, "latest", override])
        assert "error" not in answer, answer
        return str(answer["result"])

    def ask(self, signature: str, *arguments: Any) -> str:
        inside = signature[signature.index("(") + 1 : -1]
        types = [inside] if inside.startswith("(") else inside.split(",") if inside else []
        data = selector(signature) + encode(types, arguments).hex()
        return self._request({"to": CHANNELS, "data": data}, self._override)


@pytest.fixture(scope="module")
def canonical() -> Any:
    with Devnet.start() as devnet:
        yield CanonicalCode(devnet.rpc_url)


def config() -> tuple[Any, ...]:
    given = VECTORS["channelConfig"]
    salt = Web3.to_bytes(hexstr=given["salt"])
    names = ("payer", "payerAuthorizer", "receiver", "receiverAuthorizer", "token")
    return (*(given[name] for name in names), given["withdrawDelay"], salt)


@pytest.mark.parametrize(
    "name", ["CHANNEL_CONFIG", "VOUCHER", "REFUND", "CLAIM_ENTRY", "CLAIM_BATCH"]
)
def test_the_shipped_code_gives_the_published_type_hashes(
    canonical: CanonicalCode, name: str
) -> None:
    struct = "".join(word.capitalize() for word in name.split("_"))
    assert canonical.ask(f"{name}_TYPEHASH()") == VECTORS["typehashes"][struct]


def test_the_shipped_code_gives_the_published_digests(canonical: CanonicalCode) -> None:
    channel_id = canonical.ask(f"getChannelId({CONFIG_TYPE})", config())
    assert channel_id == VECTORS["channelId"]

    voucher, refund, batch = VECTORS["voucher"], VECTORS["refund"], VECTORS["claimBatch"]
    id_bytes = Web3.to_bytes(hexstr=channel_id)
    ceiling = int(voucher["maxClaimableAmount"])
    asked = canonical.ask("getVoucherDigest(bytes32,uint128)", id_bytes, ceiling)
    assert asked == voucher["digest"]

    refund_words = (id_bytes, int(refund["nonce"]), int(refund["amount"]))
    asked = canonical.ask("getRefundDigest(bytes32,uint256,uint128)", *refund_words)
    assert asked == refund["digest"]

    rows = [((config(), ceiling), b"", int(batch["totalClaimed"]))]
    assert canonical.ask(f"getClaimBatchDigest({CLAIM_TYPE}[])", rows) == batch["digest"]
