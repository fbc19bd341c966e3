from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from eth_hash.auto import keccak

from registry.attestation import STRUCT as ATTESTATION
from registry.chain import model_registry
from registry.errors import SignatureError
from registry.signing.signer import recover
from registry.signing.typed_data import Domain, Struct

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "x402_vectors.json").read_text())
CHANNELS = Domain(
    "x402 Batch Settlement",
    "1",
    VECTORS["chainId"],
    "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003",
)
CHANNEL_CONFIG = Struct(
    "ChannelConfig",
    {
        "payer": "address",
        "payerAuthorizer": "address",
        "receiver": "address",
        "receiverAuthorizer": "address",
        "token": "address",
        "withdrawDelay": "uint40",
        "salt": "bytes32",
    },
)
VOUCHER = Struct("Voucher", {"channelId": "bytes32", "maxClaimableAmount": "uint128"})
REFUND = Struct("Refund", {"channelId": "bytes32", "nonce": "uint256", "amount": "uint128"})
CLAIM_ENTRY = Struct(
    "ClaimEntry",
    {"channelId": "bytes32", "maxClaimableAmount": "uint128", "totalClaimed": "uint128"},
)
CLAIM_BATCH = Struct("ClaimBatch", {"claims": "ClaimEntry[]"}, {"ClaimEntry": CLAIM_ENTRY})
CHANNEL_ID = bytes.fromhex(VECTORS["channelId"][2:])


def of_eth_account(domain: Domain, structs: list[Struct], message: dict[str, object]) -> bytes:
    """The same digest by eth-account, from the types written out."""
    declared = {"name": domain.name, "version": domain.version, "chainId": domain.chain_id}
    if domain.contract is not None:
        declared["verifyingContract"] = domain.contract
    types = {s.name: [{"name": n, "type": t} for n, t in s.fields.items()] for s in structs}
    signable = encode_typed_data(declared, types, message)
    return keccak(b"\x19\x01" + signable.header + signable.body)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("address", "0x12"),
        ("address", "nobody"),
        ("address", 7),
        ("bytes32", b"short"),
        ("bytes32", "0x" + "00" * 32),
        ("uint8", 256),
        ("uint128", 2**128),
        ("uint256", -1),
        ("uint256", 2**256),
        ("uint256", "1"),
        ("uint256", True),
        ("string", b"bytes"),
        ("bytes", "text"),
        ("bytes32[]", 7),
        ("bytes32[]", [b"short"]),
        ("bool", True),
        ("int256", 1),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused(kind: str, value: object) -> None:
    with pytest.raises(SignatureError):
        Struct("Thing", {"field": kind}).hash({"field": value})


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(SignatureError, match=r"Voucher\.maxClaimableAmount is missing"):
        VOUCHER.hash({"channelId": CHANNEL_ID})


def test_type_hashes_are_those_of_the_vectors() -> None:
    structs = {s.name: s for s in (CHANNEL_CONFIG, VOUCHER, REFUND, CLAIM_ENTRY, CLAIM_BATCH)}
    for name, struct in structs.items():
        assert f"0x{struct.type_hash().hex()}" == VECTORS["typehashes"][name]


def test_domain_separators_are_those_of_the_vectors() -> None:
    assert f"0x{CHANNELS.separator().hex()}" == VECTORS["domainSeparator_31337"]
    offer = Domain("x402 offer", "1", 1)
    assert f"0x{offer.separator().hex()}" == VECTORS["offerDomainSeparator"]


def test_channel_voucher_claim_and_refund_digests_are_those_of_the_vectors() -> None:
    separator = CHANNELS.separator()
    config = {**VECTORS["channelConfig"]}
    config["salt"] = bytes.fromhex(config["salt"][2:])
    assert CHANNEL_CONFIG.digest(separator, config) == CHANNEL_ID
    entry = {"channelId": CHANNEL_ID, "maxClaimableAmount": 5000, "totalClaimed": 4200}
    digests = {
        "voucher": VOUCHER.digest(separator, {"channelId": CHANNEL_ID, "maxClaimableAmount": 5000}),
        "claimBatch": CLAIM_BATCH.digest(separator, {"claims": [entry]}),
        "refund": REFUND.digest(separator, {"channelId": CHANNEL_ID, "nonce": 0, "amount": 300}),
    }
    signers = {
        "voucher": config["payerAuthorizer"],
        "claimBatch": config["receiverAuthorizer"],
        "refund": config["receiverAuthorizer"],
    }
    for name, digest in digests.items():
        assert f"0x{digest.hex()}" == VECTORS[name]["digest"]
        signature = bytes.fromhex(VECTORS[name]["signature"][2:])
        assert recover(digest, signature) == signers[name]


def test_digests_are_those_of_eth_account() -> None:
    domain = Domain("Thing", "2", 5, "0x000000000000000000000000000000000000dEaD")
    address = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
    cases: list[tuple[Domain, list[Struct], dict[str, object]]] = [
        (
            domain,
            [model_registry._REGISTER],
            {
                "publisher": address,
                "kind": 3,
                "manifestDigest": b"\x01" * 32,
                "parents": [b"\x02" * 32, b"\x03" * 32],
                "deadline": 2**256 - 1,
            },
        ),
        (
            Domain("No contract", "1", 1),
            [model_registry._REVOKE],
            {"id": b"\x04" * 32, "reason": "naïve ✓", "deadline": 0},
        ),
        (
            domain,
            [model_registry._SET_NAME],
            {"publisher": address, "name": "", "id": bytes(32), "nonce": 1, "deadline": 2},
        ),
        (
            domain,
            [ATTESTATION],
            {
                "modelId": b"\x05" * 32,
                "attester": address,
                "tag": b"integrity".ljust(32, b"\0"),
                "score": 2**32 - 1,
                "evidence": b"\x06" * 32,
                "issuedAt": 2**64 - 1,
                "expiresAt": 0,
            },
        ),
        (
            CHANNELS,
            [CLAIM_BATCH, CLAIM_ENTRY],
            {
                "claims": [
                    {"channelId": bytes(32), "maxClaimableAmount": 1, "totalClaimed": n}
                    for n in range(3)
                ]
            },
        ),
        (CHANNELS, [CLAIM_BATCH, CLAIM_ENTRY], {"claims": []}),
    ]
    for at, (where, structs, message) in enumerate(cases):
        ours = structs[0].digest(where.separator(), message)
        assert ours == of_eth_account(where, structs, message), f"case {at}"
