"""The standard x402 extension `offer-receipt`: offers and receipts any x402 client can verify.

They say what was asked and who paid; our own receipt says for which model, answer and amount, and
holds the digest of the standard one. Source: x402 extension offer-receipt, format eip712: domain
`x402 offer` or `x402 receipt`, version 1, chain id always 1, no contract.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Final, TypeAlias, TypeVar

from inference.audit.document import Count, Document, FormatError, Signature, TextKind
from registry.signing.canonical import JsonObject
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

VERSION: Final = 1
_FORMAT: Final = "eip712"
# The standard leaves every text open; printable ASCII without spaces, as long as URLs get.
Word: TypeAlias = Annotated[str, TextKind(r"[!-~]*", limit=2048)]

OFFER_STRUCT: Final = Struct(
    "Offer",
    {
        "version": "uint256",
        "resourceUrl": "string",
        "scheme": "string",
        "network": "string",
        "asset": "string",
        "payTo": "string",
        "amount": "string",
        "validUntil": "uint256",
    },
)
RECEIPT_STRUCT: Final = Struct(
    "Receipt",
    {
        "version": "uint256",
        "network": "string",
        "resourceUrl": "string",
        "payer": "string",
        "issuedAt": "uint256",
        "transaction": "string",
    },
)


@dataclass(frozen=True)
class _Statement(Document):
    STRUCT: ClassVar[Struct]
    SEPARATOR: ClassVar[bytes]

    def digest(self) -> bytes:
        """Return the 32 bytes that are signed."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return self.STRUCT.digest(self.SEPARATOR, self.to_json())


@dataclass(frozen=True)
class Offer(_Statement):
    """What one entry of `accepts` asks. `valid_until` is in unix seconds, 0 for no end."""

    STRUCT: ClassVar[Struct] = OFFER_STRUCT
    SEPARATOR: ClassVar[bytes] = Domain("x402 offer", "1", 1).separator()

    resource_url: Word
    scheme: Word
    network: Word
    asset: Word
    pay_to: Word
    amount: Word
    valid_until: Count = 0
    version: Count = VERSION


@dataclass(frozen=True)
class PaymentReceipt(_Statement):
    """That `payer` was served. `transaction` is empty when nothing moved on chain."""

    STRUCT: ClassVar[Struct] = RECEIPT_STRUCT
    SEPARATOR: ClassVar[bytes] = Domain("x402 receipt", "1", 1).separator()

    network: Word
    resource_url: Word
    payer: Word
    issued_at: Count
    transaction: Word = ""
    version: Count = VERSION


StatementT = TypeVar("StatementT", bound=_Statement)


def sign(signer: Signer, statement: Offer | PaymentReceipt) -> JsonObject:
    """Return the signed object for `info.offers[]` (acceptIndex is the caller's) or `info.receipt`.

    The digest of a `PaymentReceipt` goes into our receipt as `payment.x402Receipt`.
    """
    signature = "0x" + signer.sign_digest(statement.digest()).hex()
    return {"format": _FORMAT, "payload": statement.to_json(), "signature": signature}


def verify_offer(value: object) -> tuple[Offer, str]:
    """Return a signed offer and who signed it. Raises `FormatError` or `SignatureError`."""
    return _verify(Offer, value)


def verify_payment_receipt(value: object) -> tuple[PaymentReceipt, str]:
    """Return a signed receipt and who signed it. Raises `FormatError` or `SignatureError`."""
    return _verify(PaymentReceipt, value)


@dataclass(frozen=True)
class _SignatureField(Document):
    signature: Signature


def _verify(kind: type[StatementT], value: object) -> tuple[StatementT, str]:
    if not isinstance(value, Mapping) or value.get("format") != _FORMAT:
        raise FormatError("format", f"not a signed object of format {_FORMAT}")
    statement = kind.from_json(value.get("payload"), "payload")
    signature = _SignatureField.from_json({"signature": value.get("signature")}).signature
    return statement, recover(statement.digest(), signature)
