"""The standard offer-receipt: digests of the standard, and the official verifier's word."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.audit.document import FormatError
from inference.offer_receipt import (
    OFFER_STRUCT,
    RECEIPT_STRUCT,
    Offer,
    PaymentReceipt,
    sign,
    verify_offer,
    verify_payment_receipt,
)
from registry.errors import SignatureError
from tests.inference.receipt_samples import ASSET, NODE, PAYER, RECEIVER

PEER = Path(__file__).parents[1] / "peers" / "official"
OFFER = Offer(
    resource_url="https://node.example/v1/chat/completions",
    scheme="batch-settlement",
    network="eip155:31337",
    asset=ASSET,
    pay_to=RECEIVER,
    amount="188",
    valid_until=1_764_000_300,
)
RECEIPT = PaymentReceipt(
    network="eip155:31337",
    resource_url="https://node.example/v1/chat/completions",
    payer=PAYER.address,
    issued_at=1_764_000_000,
    transaction="0x" + "01" * 32,
)


def test_a_changed_offer_has_another_signer() -> None:
    signed: Any = sign(NODE, OFFER)
    signed["payload"]["amount"] = "1"
    assert verify_offer(signed)[1] != NODE.address


def test_an_offer_is_not_a_receipt() -> None:
    with pytest.raises(FormatError, match="payload"):
        verify_payment_receipt(sign(NODE, OFFER))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda s: s.update(format="jws"), FormatError),
        (lambda s: s.pop("payload"), FormatError),
        (lambda s: s["payload"].update(tip="1"), FormatError),
        (lambda s: s["payload"].pop("payer"), FormatError),
        (lambda s: s["payload"].update(issuedAt="now"), FormatError),
        (lambda s: s["payload"].update(payer="a b"), FormatError),
        (lambda s: s["payload"].update(resourceUrl="x" * 3000), FormatError),
        (lambda s: s.update(signature="0x12"), FormatError),
        (lambda s: s.update(signature="0x" + "00" * 65), SignatureError),
    ],
)
def test_an_object_of_another_shape_is_refused(
    change: Callable[[Any], object], error: type[Exception]
) -> None:
    signed = sign(NODE, RECEIPT)
    change(signed)
    with pytest.raises(error):
        verify_payment_receipt(signed)
    with pytest.raises(FormatError):
        verify_payment_receipt("text")


def test_types_and_domains_are_the_standards() -> None:
    assert OFFER_STRUCT.type_hash().hex() == (
        "85143d3249b5e62ed5edd3d59a352d4e1181c775ff4f762f9c8a617f6bf1e97d"
    )
    assert RECEIPT_STRUCT.type_hash().hex() == (
        "616944bc4bb51b3d5fcbba8c559f76d57a93ac1e0d6659f1abbe95f92300c06f"
    )
    assert Offer.SEPARATOR.hex() == (
        "5dc92544087ab60aa57c539b9543f9282416b0dcf2c2ae0d4d0051052a9e61b6"
    )
    assert PaymentReceipt.SEPARATOR.hex() == (
        "fd7f8c81cdd24b25c99ba22e191cee41d8809abbc12e8fdbd42fddfa5bb9e406"
    )


def test_offers_and_receipts_come_back_with_their_signer() -> None:
    assert verify_offer(sign(NODE, OFFER)) == (OFFER, NODE.address)
    assert verify_payment_receipt(sign(NODE, RECEIPT)) == (RECEIPT, NODE.address)
    unsettled = replace(RECEIPT, transaction="")
    assert verify_payment_receipt(sign(NODE, unsettled)) == (unsettled, NODE.address)


@pytest.mark.peer
@pytest.mark.skipif(not (PEER / "node_modules").exists(), reason="run `make setup` for the peers")
def test_the_official_client_names_the_node_as_signer() -> None:
    script = """
      import { verifyOfferSignatureEIP712, verifyReceiptSignatureEIP712 }
        from "@x402/extensions/offer-receipt";
      const [offer, receipt] = JSON.parse(process.argv[1]);
      const signers = [(await verifyOfferSignatureEIP712(offer)).signer,
                       (await verifyReceiptSignatureEIP712(receipt)).signer];
      console.log(JSON.stringify(signers));
    """
    node = Path(sys.executable).parent / "node"
    done = subprocess.run(
        [
            node,
            "--input-type=module",
            "-e",
            script,
            json.dumps([sign(NODE, OFFER), sign(NODE, RECEIPT)]),
        ],
        cwd=PEER,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [NODE.address, NODE.address]
