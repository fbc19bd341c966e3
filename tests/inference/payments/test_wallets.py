"""Signatures of payers that are contracts: what is refused without asking the chain, and bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_abi.abi import encode

from inference.errors import NodeError, PaymentRefusedError
from inference.payments.eip3009 import TRANSFER, Authorization
from inference.payments.exact import verify_authorization
from inference.payments.wallet import (
    Approval,
    Deployment,
    WalletSignature,
    WalletSignatureError,
    make_approval,
)
from inference.payments.wallet_contract import Wallets
from registry.chain.connection import Chain
from registry.signing.signer import Signer
from tests.inference.payments.payer import NOW, RECEIVER, TOKEN

NOWHERE = Chain("http://127.0.0.1:9")
KEY = Signer(b"\x31" * 32)
WALLET = "0x3333333333333333333333333333333333333333"
FACTORY = "0x4444444444444444444444444444444444444444"
SUFFIX = bytes.fromhex("6492" * 16)
TERMS = {"token": TOKEN, "pay_to": RECEIVER, "amount": 100, "now": NOW}


def authorization(**changes: object) -> Authorization:
    unsigned = Authorization(WALLET, RECEIVER, 100, 0, NOW + 600, bytes(32), b"")
    unsigned = replace(unsigned, **changes)
    return replace(unsigned, signature=KEY.sign_digest(unsigned.digest(TRANSFER, TOKEN)))


def question(signed: Authorization) -> WalletSignatureError:
    with pytest.raises(WalletSignatureError) as asked:
        verify_authorization(signed, **TERMS)  # type: ignore[arg-type]
    return asked.value


def test_everything_else_is_checked_before_a_contract_is_asked() -> None:
    for wrong in ({"value": 99}, {"to": WALLET}, {"valid_before": NOW}, {"valid_after": NOW + 1}):
        with pytest.raises(PaymentRefusedError) as refused:
            verify_authorization(authorization(**wrong), **TERMS)  # type: ignore[arg-type]
        assert not isinstance(refused.value, WalletSignatureError)


def test_who_catches_nothing_refuses_the_payment_with_its_code() -> None:
    assert question(authorization()).code == "invalid_exact_evm_payload_signature"


def test_without_wallets_nobody_is_asked() -> None:
    asked = question(authorization())
    with pytest.raises(WalletSignatureError):
        Wallets(NOWHERE, gas=0).approve(asked)


@pytest.mark.parametrize(
    "wrapped",
    [SUFFIX, bytes(31) + SUFFIX, encode(["address", "bytes"], [FACTORY, b""]) + SUFFIX],
    ids=["empty", "short", "two parts"],
)
def test_a_wrapping_that_cannot_be_read_is_no_signature(wrapped: bytes) -> None:
    assert WalletSignature.parse(wrapped) is None
    asked = question(replace(authorization(), signature=wrapped))
    with pytest.raises(WalletSignatureError):
        Wallets(NOWHERE, gas=100_000).approve(asked)


def test_a_wrapping_holds_the_factory_what_it_is_called_with_and_the_signature() -> None:
    wrapped = encode(["address", "bytes", "bytes"], [FACTORY, b"make", b"signed"]) + SUFFIX
    parsed = WalletSignature.parse(wrapped)
    assert parsed == WalletSignature(b"signed", Deployment(FACTORY, b"make"))


def test_an_approval_holds_for_the_payer_and_the_digest_that_were_asked_about() -> None:
    asked = question(authorization())
    approval = make_approval(asked, WalletSignature(b"inner"))
    verified = verify_authorization(authorization(), **TERMS, approval=approval)  # type: ignore[arg-type]
    assert verified.authorization.signature == b"inner"
    for other in (authorization(nonce=b"\x01" * 32), authorization(payer=FACTORY)):
        with pytest.raises(WalletSignatureError):
            verify_authorization(other, **TERMS, approval=approval)  # type: ignore[arg-type]


def test_an_approval_comes_from_the_chain_only() -> None:
    with pytest.raises(NodeError, match="from the chain only"):
        Approval(WALLET, bytes(32), b"", None, object())
