"""Every digest of a channel equals the golden vector that the contracts and clients share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_hash.auto import keccak

from inference.payments import channel
from inference.payments.channel import ChannelConfig, Voucher
from inference.payments.eip3009 import RECEIVE, TRANSFER
from inference.payments.fields import Fields
from inference.payments.verification import verify_payment
from registry.chain.deploy import CANONICAL_CHANNELS
from registry.signing.signer import Signer
from tests.inference.payments.payer import Payer, make_terms

VECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "x402_vectors.json").read_text()
)
CONFIG = ChannelConfig.parse(Fields(VECTOR["channelConfig"], "config", RuntimeError))
DOMAIN = channel.separator(VECTOR["chainId"], CANONICAL_CHANNELS)
ID = bytes.fromhex(VECTOR["channelId"][2:])


def test_the_domain_separator_and_the_channel_id_are_the_vectors() -> None:
    assert "0x" + DOMAIN.hex() == VECTOR["domainSeparator_31337"]
    assert channel.channel_id(CONFIG, DOMAIN) == ID


def test_a_config_survives_json() -> None:
    assert CONFIG.to_json() == VECTOR["channelConfig"]


@pytest.mark.parametrize(
    ("name", "struct"),
    [
        ("ChannelConfig", channel.CONFIG),
        ("Voucher", channel.VOUCHER),
        ("Refund", channel.REFUND),
        ("ClaimEntry", channel.CLAIM_ENTRY),
        ("ClaimBatch", channel.CLAIM_BATCH),
        ("TransferWithAuthorization", TRANSFER),
        ("ReceiveWithAuthorization", RECEIVE),
    ],
)
def test_a_type_hash_is_the_vectors(name: str, struct: Any) -> None:
    assert "0x" + struct.type_hash().hex() == VECTOR["typehashes"][name]


def test_a_voucher_has_the_vectors_digest_and_signature() -> None:
    voucher = Voucher(ID, int(VECTOR["voucher"]["maxClaimableAmount"]), b"")
    digest = voucher.digest(DOMAIN)
    assert "0x" + digest.hex() == VECTOR["voucher"]["digest"]
    signature = Signer(bytes.fromhex(VECTOR["payerKey"][2:])).sign_digest(digest)
    assert "0x" + signature.hex() == VECTOR["voucher"]["signature"]


def test_the_vectors_voucher_is_accepted() -> None:
    terms = make_terms(receiver=CONFIG.receiver, receiver_authorizer=CONFIG.receiver_authorizer)
    payload = {
        "type": "voucher",
        "channelConfig": VECTOR["channelConfig"],
        "voucher": {"channelId": VECTOR["channelId"], **VECTOR["voucher"]},
    }
    verified = verify_payment(channel.parse_batch_payload(payload), terms, now=0)
    assert verified.channel_id == VECTOR["channelId"]


def test_a_claim_batch_and_a_refund_have_the_vectors_digests_and_signatures() -> None:
    authorizer = Signer(bytes.fromhex(VECTOR["receiverAuthorizerKey"][2:]))
    batch = channel.CLAIM_BATCH.digest(
        DOMAIN,
        {
            "claims": [
                {
                    "channelId": ID,
                    "maxClaimableAmount": int(VECTOR["voucher"]["maxClaimableAmount"]),
                    "totalClaimed": int(VECTOR["claimBatch"]["totalClaimed"]),
                }
            ]
        },
    )
    refund = channel.REFUND.digest(
        DOMAIN,
        {
            "channelId": ID,
            "nonce": int(VECTOR["refund"]["nonce"]),
            "amount": int(VECTOR["refund"]["amount"]),
        },
    )
    for digest, name in ((batch, "claimBatch"), (refund, "refund")):
        assert "0x" + digest.hex() == VECTOR[name]["digest"]
        assert "0x" + authorizer.sign_digest(digest).hex() == VECTOR[name]["signature"]


def test_a_deposits_nonce_binds_channel_and_salt() -> None:
    expected = VECTOR["erc3009DepositNonce"]
    salt = int(expected["salt"], 16)
    assert "0x" + keccak(encode(["bytes32", "uint256"], [ID, salt])).hex() == expected["nonce"]
    payer = Payer(salt=CONFIG.salt)
    payload = payer.payload("deposit", 1, deposit=payer.deposit_json(5))
    payload["voucher"]["channelId"] = VECTOR["channelId"]
    payload["deposit"]["authorization"]["erc3009Authorization"]["salt"] = expected["salt"]
    payment = channel.parse_batch_payload(payload)
    assert isinstance(payment, channel.DepositPayment)
    assert "0x" + payment.authorization(payer.terms.collector).nonce.hex() == expected["nonce"]
