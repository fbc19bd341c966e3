"""Payments written by hand, so that single parts of them can be wrong."""

from __future__ import annotations

import base64
import json
import secrets
import time
from typing import Any

from inference.payments.eip3009 import TRANSFER, Authorization, Token
from registry.signing.signer import Signer
from tests.e2e.market import Market


def offer(market: Market, body: dict[str, Any], path: str, scheme: str) -> dict[str, Any]:
    """Return what the node asks for a request, by one scheme."""
    with market.http() as client:
        answer = client.post(path, json=body)
    demanded = json.loads(base64.b64decode(answer.headers["PAYMENT-REQUIRED"]))
    return next(entry for entry in demanded["accepts"] if entry["scheme"] == scheme)


def wrap(
    accepted: dict[str, Any], payload: dict[str, Any], identifier: object = None
) -> dict[str, str]:
    """Return the payment header; `identifier` names the call."""
    payment: dict[str, Any] = {"x402Version": 2, "accepted": accepted, "payload": payload}
    if identifier is not None:
        info = {"required": False, "id": identifier}
        payment["extensions"] = {"payment-identifier": {"info": info}}
    text = json.dumps(payment)
    return {"PAYMENT-SIGNATURE": base64.b64encode(text.encode()).decode()}


def exact(
    accepted: dict[str, Any], signer: Signer, identifier: object = None, **changes: Any
) -> dict[str, str]:
    """Pay an offer by `exact`; `changes` replace fields after signing."""
    token = Token(
        int(accepted["network"].removeprefix("eip155:")),
        accepted["asset"],
        accepted["extra"]["name"],
        accepted["extra"]["version"],
    )
    signed = Authorization(
        payer=signer.address,
        to=accepted["payTo"],
        value=int(accepted["amount"]),
        valid_after=0,
        valid_before=int(time.time()) + 600,
        nonce=secrets.token_bytes(32),
        signature=b"",
    )
    authorization = {
        "from": signed.payer,
        "to": signed.to,
        "value": str(signed.value),
        "validAfter": "0",
        "validBefore": str(signed.valid_before),
        "nonce": "0x" + signed.nonce.hex(),
    } | changes
    signature = signer.sign_digest(signed.digest(TRANSFER, token))
    payload = {"signature": "0x" + signature.hex(), "authorization": authorization}
    return wrap(accepted, payload, identifier)
