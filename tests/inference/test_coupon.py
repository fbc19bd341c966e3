"""A coupon is the operator's word for one node; whatever is changed in it is not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from inference.audit.document import ZERO_ADDRESS
from inference.coupon import COUPON_STRUCT, Coupon, CouponGuard, CouponRefusedError, coupon_domain
from registry.signing.signer import Signer
from tests.inference.receipt_samples import CHAIN_ID, NODE, PAYER, STRANGER

OPERATOR = Signer(b"\x44" * 32)
DOMAIN = coupon_domain(CHAIN_ID, NODE.address)
GUARD = CouponGuard(DOMAIN, OPERATOR.address)
NOW = 1_800_000_000
COUPON = Coupon(PAYER.address, "small,large", "calls", 5, NOW + 60, b"\x07" * 32)


def changed(**changes: Any) -> str:
    """Return the coupon's header after somebody changed it."""
    value = json.loads(base64.b64decode(COUPON.signed(OPERATOR, DOMAIN)))
    value["coupon"] |= changes
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return base64.b64encode(text.encode()).decode()


def read(header: str, *, model: str = "small", now: int = NOW) -> Coupon:
    return GUARD.read(header, model=model, now=now)


@pytest.mark.parametrize(
    "change",
    [
        {"wallet": STRANGER.address},
        {"wallet": ZERO_ADDRESS},
        {"models": ""},
        {"unit": "amount"},
        {"limit": "6"},
        {"expiresAt": NOW + 61},
        {"nonce": "0x" + "08" * 32},
    ],
    ids=lambda change: str(next(iter(change))),
)
def test_a_coupon_that_was_changed_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(CouponRefusedError, match="was not signed by this node's operator"):
        read(changed(**change))


@pytest.mark.parametrize(
    "header",
    [
        COUPON.signed(STRANGER, DOMAIN),
        COUPON.signed(OPERATOR, coupon_domain(CHAIN_ID, STRANGER.address)),
        COUPON.signed(OPERATOR, coupon_domain(1, NODE.address)),
    ],
    ids=["by a stranger", "for another node", "for another chain"],
)
def test_a_coupon_that_is_not_for_this_node_is_refused(header: str) -> None:
    with pytest.raises(CouponRefusedError, match="was not signed by this node's operator"):
        read(header)


@pytest.mark.parametrize(
    "header",
    ["", "x", "e30=", "bnVsbA==", changed(limit=5), changed(more=1), "A" * 5000],
    ids=["empty", "no base64", "object", "null", "number", "more", "long"],
)
def test_what_is_no_coupon_is_refused(header: str) -> None:
    with pytest.raises(CouponRefusedError, match="is not one"):
        read(header)


def test_a_coupon_holds_until_its_end_and_for_its_models() -> None:
    header = COUPON.signed(OPERATOR, DOMAIN)
    assert read(header, now=NOW + 59) == COUPON
    assert read(header, model="large") == COUPON
    with pytest.raises(CouponRefusedError, match="ended at"):
        read(header, now=NOW + 60)
    for model in ("smal", "small,large", "other", ""):
        with pytest.raises(CouponRefusedError, match="is for small,large"):
            read(header, model=model)
    every = replace(COUPON, models="", wallet=ZERO_ADDRESS)
    assert read(every.signed(OPERATOR, DOMAIN), model="other").is_bearers
    assert not COUPON.is_bearers


def test_the_signature_is_eip_712_as_wallets_compute_it() -> None:
    message = {
        "wallet": COUPON.wallet,
        "models": COUPON.models,
        "unit": COUPON.unit,
        "limit": COUPON.limit,
        "expiresAt": COUPON.expires_at,
        "nonce": COUPON.nonce,
    }
    domain = {
        "name": "Weightproof coupon",
        "version": "1",
        "chainId": CHAIN_ID,
        "verifyingContract": NODE.address,
    }
    fields = [{"name": name, "type": kind} for name, kind in COUPON_STRUCT.fields.items()]
    typed = encode_typed_data(domain, {"Coupon": fields}, message)
    signature = OPERATOR.sign_digest(COUPON.digest(DOMAIN))
    assert Account.recover_message(typed, signature=signature) == OPERATOR.address
