"""x402 version 2 on the wire: three headers, each the base64 of one JSON object.

402 answers carry PAYMENT-REQUIRED, paid requests PAYMENT-SIGNATURE, their answers
PAYMENT-RESPONSE. What comes in is foreign: bounded, parsed strictly, refused with 400.
Source: the x402 v2 specification as its official clients speak it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NoReturn

from inference.errors import MalformedPaymentError
from inference.payments.fields import Fields

VERSION: Final = 2
PAYMENT_REQUIRED: Final = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE: Final = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE: Final = "PAYMENT-RESPONSE"
# Larger than any honest payment, smaller than what servers and proxies let through as a header.
MAX_HEADER_BYTES: Final = 16 * 1024
_MAX_DEPTH: Final = 32
_TEXT: Final = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, check_circular=False
).encode


@dataclass(frozen=True)
class Requirements:
    """One way to pay: an entry of `accepts`. `amount` is in atomic units of `asset`.

    Equal requests must give equal requirements: the paid retry echoes them.
    """

    scheme: str
    network: str
    amount: int
    asset: str
    pay_to: str
    max_timeout_seconds: int
    extra: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def shown(self) -> tuple[tuple[str, object], ...]:
        """All of the entry but its `extra`, by name."""
        return tuple((name, value) for name, value in self.to_json().items() if name != "extra")

    def to_json(self, extra: Mapping[str, object] | None = None) -> dict[str, object]:
        """Return the entry; `extra` is added to its own for a corrective answer."""
        return {
            "scheme": self.scheme,
            "network": self.network,
            "amount": str(self.amount),
            "asset": self.asset,
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "extra": {**self.extra, **(extra or {})},
        }


@dataclass(frozen=True)
class PaymentPayload:
    """What a client sent. `payload` belongs to the scheme; `raw` is the JSON as it came."""

    accepted: Mapping[str, object]
    payload: Mapping[str, object]
    resource: Mapping[str, object]
    extensions: Mapping[str, object]
    raw: bytes

    @property
    def scheme(self) -> str:
        """The scheme the client chose."""
        return str(self.accepted["scheme"])


def decode_payment(header: str) -> PaymentPayload:
    """Read a PAYMENT-SIGNATURE header. Raises `MalformedPaymentError` with the reason."""
    raw = _unwrap(header)
    fields = Fields(_parse(raw), "payment", MalformedPaymentError)
    if fields.integer("x402Version", high=1000) != VERSION:
        raise MalformedPaymentError(f"payment.x402Version must be {VERSION}")
    accepted = fields.nested("accepted")
    for name in ("scheme", "network", "asset", "payTo"):
        accepted.text(name)
    accepted.amount("amount", bits=256)
    accepted.integer("maxTimeoutSeconds", high=2**53 - 1)
    accepted.mapping("extra")
    fields.nested("payload")
    return PaymentPayload(
        accepted=fields.mapping("accepted"),
        payload=fields.mapping("payload"),
        resource=fields.mapping("resource"),
        extensions=fields.mapping("extensions"),
        raw=raw,
    )


def matches(requirements: Requirements, accepted: Mapping[str, object]) -> bool:
    """Say whether a client's echo is this entry; it may add to `extra`, not change it."""
    echoed = accepted.get("extra") or {}
    if not isinstance(echoed, Mapping):
        return False
    for name, value in requirements.shown:
        if not _same(value, accepted.get(name)):
            return False
    return all(_same(value, echoed.get(name)) for name, value in requirements.extra.items())


def payment_required(
    resource: Mapping[str, object],
    accepts: Sequence[Requirements],
    *,
    error: str = "",
    extensions: Mapping[str, object] | None = None,
    correction: Mapping[str, object] | None = None,
) -> str:
    """Return a PAYMENT-REQUIRED header.

    `error` is a bare x402 code, or empty. `correction` is the `extra` of a
    `CorrectivePaymentError`; it goes into the batch-settlement entries.
    """
    entries = [
        entry.to_json(correction if entry.scheme == "batch-settlement" else None)
        for entry in accepts
    ]
    body: dict[str, object] = {"x402Version": VERSION, "resource": resource, "accepts": entries}
    if error:
        body["error"] = error
    if extensions:
        body["extensions"] = extensions
    return _wrap(body)


def settle_response(
    *,
    success: bool,
    network: str,
    payer: str = "",
    transaction: str = "",
    amount: int | None = None,
    error: tuple[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
    extensions: Mapping[str, object] | None = None,
    written: Mapping[str, str] | None = None,
) -> str:
    """Return a PAYMENT-RESPONSE header.

    `written` are extensions too, each as JSON text already.

    `amount` is what moved on chain by `transaction`; a voucher moves nothing and has neither.
    `error` is (code, sentence).
    """
    body: dict[str, object] = {
        "success": success,
        "transaction": transaction,
        "network": network,
        "amount": "" if amount is None else str(amount),
    }
    if payer:
        body["payer"] = payer
    if error:
        body["errorReason"], body["errorMessage"] = error
    if extra:
        body["extra"] = extra
    if extensions:
        body["extensions"] = extensions
    text = _TEXT(body)
    if written:
        members = ",".join(f"{_TEXT(name)}:{value}" for name, value in written.items())
        end = f",{members}}}}}" if extensions else f',"extensions":{{{members}}}}}'
        text = text[: -2 if extensions else -1] + end
    return _wrapped(text)


def decode_header(value: str, *, max_bytes: int = 256 * 1024) -> dict[str, object]:
    """Read a PAYMENT-REQUIRED or PAYMENT-RESPONSE header, as clients and auditors do."""
    parsed = _parse(_unwrap(value, max_bytes=max_bytes))
    if not isinstance(parsed, dict):
        raise MalformedPaymentError("the header is not a JSON object")
    return parsed


def _wrap(body: Mapping[str, object]) -> str:
    return _wrapped(_TEXT(body))


def _wrapped(text: str) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def _unwrap(header: str, *, max_bytes: int = MAX_HEADER_BYTES) -> bytes:
    if len(header) > max_bytes:
        raise MalformedPaymentError(f"the header has {len(header)} bytes, at most {max_bytes}")
    try:
        return base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedPaymentError(f"the header is not padded base64: {error}") from error


def _parse(raw: bytes) -> object:
    try:
        text = raw.decode()
        value = _read(text)
    except UnicodeDecodeError as error:
        raise MalformedPaymentError(f"the header is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise MalformedPaymentError(f"the header is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise MalformedPaymentError("the header is nested too deep") from error
    # Most have fewer brackets than may be open at once.
    if text.count("{") + text.count("[") > _MAX_DEPTH:
        _check_depth(value, _MAX_DEPTH)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedPaymentError("the header has an object with a key twice")
    return result


def _refuse(text: str) -> NoReturn:
    raise MalformedPaymentError(f"the header holds {text}, which is not JSON")


def _integer(text: str) -> int:
    # Converting thousands of digits takes quadratic time, and no field needs them.
    if len(text) > 20:
        raise MalformedPaymentError("the header holds a number of more than 20 digits")
    return int(text)


def _check_depth(value: object, left: int) -> None:
    if not left:
        raise MalformedPaymentError("the header is nested too deep")
    for child in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _check_depth(child, left - 1)


def _same(ours: object, theirs: object) -> bool:
    # JSON's 1, 1.0 and true are equal in Python; on the wire they are not the same offer.
    return type(ours) is type(theirs) and ours == theirs


# Made once: `json.loads` makes a decoder for each text it reads with hooks.
_read: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse, parse_int=_integer
).decode
