"""The x402 extension `payment-identifier`: a payer's own name for one call, so that it can retry.

A retry is told from another call by its binding: a digest over route, body and what was signed. Of
the payment's echo of our offer only what was agreed on counts, not what a 402 shows beside it: that
changes from one 402 to the next, and a client's retry begins with one. Source: x402 v2, extension
payment-identifier.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inference.errors import MalformedPaymentError, PaymentRefusedError
from inference.payments import exact
from inference.payments.channel import parse_batch_payload
from inference.payments.exact import parse_authorization
from inference.payments.fields import Fields
from inference.payments.x402 import PaymentPayload

NAME: Final = "payment-identifier"
_ID: Final = re.compile(r"[A-Za-z0-9_-]{16,128}", re.ASCII)
_AGREED: Final = ("scheme", "network", "asset", "amount", "payTo")
_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {
            "type": "string",
            "minLength": 16,
            "maxLength": 128,
            "pattern": "^[a-zA-Z0-9_-]+$",
        },
    },
    "required": ["required"],
}


@dataclass(frozen=True)
class Ticket:
    """A call that its payer named: `id` is unique among those of `payer`, `binding` 32 bytes.

    Until the payment is verified, `payer` is only what it says.
    """

    payer: str
    id: str
    binding: bytes


def declaration(*, required: bool) -> dict[str, Any]:
    """Return the extension as a 402 declares it."""
    return {"info": {"required": required}, "schema": _SCHEMA}


def identifier(payment: PaymentPayload) -> str:
    """Return the name that a payment gives its call, "" for none.

    Raises `MalformedPaymentError` for one that is not 16 to 128 of A-Z, a-z, 0-9, - and _.
    """
    if payment.extensions.get(NAME) is None:
        return ""
    extensions = Fields(payment.extensions, "payment.extensions", MalformedPaymentError)
    info = extensions.nested(NAME).nested("info")
    if not info.has("id"):  # a client that echoes what it does not use
        return ""
    name = info.text("id", max_length=128)
    if not _ID.fullmatch(name):
        raise MalformedPaymentError(
            f"payment.extensions.{NAME}.info.id must be 16 to 128 of A-Z, a-z, 0-9, - and _"
        )
    return name


def binding(payment: PaymentPayload, path: str, body: bytes) -> bytes:
    """Return what makes a call the same call: 32 bytes over route, body and signed payment."""
    agreed = {name: payment.accepted.get(name) for name in _AGREED}
    signed = json.dumps([path, agreed, payment.payload], sort_keys=True).encode()
    return hashlib.sha256(hashlib.sha256(signed).digest() + hashlib.sha256(body).digest()).digest()


def ticket(payment: PaymentPayload, path: str, body: bytes) -> Ticket | None:
    """Return the ticket of a call that its payer named; None for others.

    A payment that cannot be read has none either: it is refused where payments are verified.
    """
    name = identifier(payment)
    if not name:
        return None
    try:
        payer = _payer(payment.scheme, payment.payload)
    except PaymentRefusedError:
        return None
    return Ticket(payer, name, binding(payment, path, body))


def _payer(scheme: str, payload: Mapping[str, object]) -> str:
    if scheme == exact.SCHEME:
        return parse_authorization(payload).payer
    return parse_batch_payload(payload).config.payer
