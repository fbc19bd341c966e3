"""Receipts: the node's signed statement about one call, issued and checked.

One EIP-712 signature binds the receipt's bytes to the values a contract can act on: model, payer,
charge, request, response and log position. The payer gets the salts beside it and can check all
of it offline; the log holds the same receipt without the salts, so that nobody else can test
guesses of a short prompt.

What format 1 fixes for ever: `salted_hash`, `token_digest` and `price_of`; format 2 the arithmetic
of `receipt_plan`.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from inference.audit.document import (
    Digest,
    Document,
    FormatError,
    NestedKind,
    OptionalKind,
    Signature,
)
from inference.audit.entry import RECEIPT, EncodedEntry, Entry
from inference.errors import AuditError
from inference.receipt_format import (
    FAILED,
    REFUSED,
    PriceFacts,
    Receipt,
    ReceiptFacts,
    ReceiptKind,
)
from inference.receipt_plan import NO_TIME
from registry.errors import SignatureError
from registry.signing.canonical import JsonObject
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

RECEIPT_STRUCT: Final = Struct(
    "Receipt",
    {
        "receiptDigest": "bytes32",
        "modelId": "bytes32",
        "payer": "address",
        "charged": "uint256",
        "requestHash": "bytes32",
        "responseHash": "bytes32",
        "seq": "uint64",
    },
)
SALT_BYTES: Final = 32
_PER_MILLION: Final = 1_000_000
_TOKENS_PREFIX: Final = b"weightproof/tokens@1\0"


@dataclass(frozen=True)
class Salts(Document):
    """What the payer needs to show which request and response a receipt is about."""

    request: Digest
    response: Digest

    @classmethod
    def random(cls) -> Salts:
        """Make fresh salts; one pair a call, never two calls with the same."""
        return cls(os.urandom(SALT_BYTES), os.urandom(SALT_BYTES))


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt and the node's signature; the payer's copy carries the salts too."""

    receipt: Receipt
    signature: bytes
    salts: Salts | None = None

    def public(self) -> JsonObject:
        """Return what anybody may see and the log holds: receipt and signature."""
        return {"receipt": self.receipt.to_json(), "signature": "0x" + self.signature.hex()}

    def bundle(self) -> JsonObject:
        """Return what travels to the payer: the salts too, when there are any."""
        return self.public() | ({"salts": self.salts.to_json()} if self.salts else {})

    def public_text(self) -> str:
        """Return the canonical text of `public`."""
        return LoggedReceipt(self.receipt, self.signature).canonical

    def bundle_text(self) -> str:
        """Return the canonical text of `bundle`."""
        return ReceiptBundle(self.receipt, self.signature, self.salts).canonical

    def entry(self) -> Entry:
        """Return the log entry of this receipt."""
        return Entry(self.receipt.seq, RECEIPT, self.public())

    def encoded_entry(self) -> EncodedEntry:
        """Return the same entry, encoded of the texts that are there already."""
        return EncodedEntry(self.receipt.seq, RECEIPT, self.public_text())

    @classmethod
    def from_json(cls, value: object) -> SignedReceipt:
        """Read a bundle. Raises `FormatError` for an unknown, missing or misspelt field."""
        if not isinstance(value, Mapping):
            raise FormatError("", "a receipt bundle is an object")
        if odd := value.keys() - {"receipt", "signature", "salts"}:
            raise FormatError(f"{min(map(str, odd)):.60}", "unknown field")
        bundle = ReceiptBundle.from_json(value)
        return cls(bundle.receipt, bundle.signature, bundle.salts)


@dataclass(frozen=True)
class LoggedReceipt(Document):
    """A receipt as the log holds it."""

    receipt: Annotated[Receipt, ReceiptKind()]
    signature: Signature


@dataclass(frozen=True)
class ReceiptBundle(LoggedReceipt):
    """A receipt as it travels to its payer."""

    salts: Annotated[Salts | None, OptionalKind(NestedKind(Salts))] = None


def receipt_domain(chain_id: int, anchor: str) -> Domain:
    """Return the EIP-712 domain: receipts belong to the log anchored at `anchor`."""
    return Domain("Weightproof Receipt", "1", chain_id, anchor)


def salted_hash(salt: bytes, data: bytes) -> bytes:
    """Return sha256(salt ‖ data): binds to bytes that cannot be guessed without the salt."""
    return SaltedHash(salt).add(data).digest()


class SaltedHash:
    """`salted_hash` of bytes that come piece by piece, as a stream does."""

    def __init__(self, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise FormatError("salt", f"{len(salt)} bytes, not {SALT_BYTES}")
        self._hash = hashlib.sha256(salt)

    def add(self, data: bytes) -> SaltedHash:
        """Take the next bytes."""
        self._hash.update(data)
        return self

    def digest(self) -> bytes:
        """Return the 32 bytes for what came so far."""
        return self._hash.digest()


def token_digest(ids: Iterable[int]) -> bytes:
    """Return the digest of token ids in order, each as four little-endian bytes."""
    listed = tuple(ids)
    return hashlib.sha256(_TOKENS_PREFIX + struct.pack(f"<{len(listed)}I", *listed)).digest()


def price_of(price: PriceFacts, input_tokens: int, output_tokens: int, time: int = 0) -> int:
    """Return the list price of a call of that many tokens: rounded up once.

    `time` is what computing costs beside, in millionths of an atomic unit.
    """
    tokens = input_tokens * price.input_per_million + output_tokens * price.output_per_million
    return price.per_call - (-(tokens + time) // _PER_MILLION)


def issue(
    signer: Signer,
    domain: Domain,
    facts: ReceiptFacts,
    *,
    seq: int,
    prev: bytes,
    salts: Salts | None = None,
) -> SignedReceipt:
    """Place facts at `seq` after the entry with leaf hash `prev`, and sign them."""
    return sign(signer, domain, Receipt.of(facts, seq=seq, prev=prev, node=signer.address), salts)


def sign(
    signer: Signer, domain: Domain, receipt: Receipt, salts: Salts | None = None
) -> SignedReceipt:
    """Sign a receipt of the signer's node."""
    return SignedReceipt(receipt, signer.sign_digest(signing_digest(receipt, domain)), salts)


def signing_digest(receipt: Receipt, domain: Domain) -> bytes:
    """Return the 32 bytes the node signs."""
    return RECEIPT_STRUCT.digest(domain.separator(), receipt_values(receipt))


def receipt_values(receipt: Receipt) -> dict[str, object]:
    """Return what a signature binds, in the order in which contracts take it."""
    return {
        "receiptDigest": hashlib.sha256(receipt.encode()).digest(),
        "modelId": receipt.model.model_id,
        "payer": receipt.payment.payer,
        "charged": receipt.payment.charged,
        "requestHash": receipt.request.hash,
        "responseHash": receipt.response.hash,
        "seq": receipt.seq,
    }


def verify_receipt(
    signed: SignedReceipt,
    *,
    node: str,
    domain: Domain,
    request: bytes | None = None,
    response: bytes | None = None,
) -> Receipt:
    """Check a receipt offline: signature, charge, and the bytes sent and got where given.

    Raises `AuditError` of check 4 (not this node, or about other bytes) or 5 (the charge), with
    the bundle as evidence.
    """
    check_signature(signed, node=node, domain=domain)
    check_charge(signed)
    check_bytes(signed, request=request, response=response)
    return signed.receipt


def check_signature(signed: SignedReceipt, *, node: str, domain: Domain) -> None:
    """Raise `AuditError` (4) unless `node` signed exactly this receipt."""
    if signed.receipt.node != node:
        raise _refused(4, f"the receipt is by node {signed.receipt.node}, not {node}", signed)
    try:
        signer = recover(signing_digest(signed.receipt, domain), signed.signature)
    except SignatureError as error:
        raise _refused(4, f"the receipt's signature: {error}", signed) from error
    if signer != node:
        raise _refused(4, f"the receipt was changed, or signed by {signer}", signed)


def check_bytes(signed: SignedReceipt, *, request: bytes | None, response: bytes | None) -> None:
    """Raise `AuditError` (4) unless the receipt is about these bytes."""
    if request is None and response is None:
        return
    if signed.salts is None:
        raise _refused(4, "without salts nobody can say which bytes the receipt is about", signed)
    receipt, salts = signed.receipt, signed.salts
    if request is not None and salted_hash(salts.request, request) != receipt.request.hash:
        raise _refused(4, "the receipt is about another request", signed)
    if response is not None and salted_hash(salts.response, response) != receipt.response.hash:
        raise _refused(4, "the receipt is about another response", signed)


def check_charge(signed: SignedReceipt) -> None:
    """Raise `AuditError` (5) with what `charge_fault` says."""
    if fault := charge_fault(signed.receipt):
        raise _refused(5, fault, signed)


def charge_fault(receipt: Receipt) -> str:
    """Say why quote and charge do not follow from price, usage and plan; nothing if they do.

    The quote is the list price of the input and of the most output and time allowed. A channel is
    charged for what there was, less what the plan takes off; `exact` transfers the quote; what was
    refused or failed costs nothing.
    """
    tokens, payment, plan = receipt.tokens, receipt.payment, receipt.plan
    if payment.charged > payment.quote:
        return f"charged {payment.charged}, more than the {payment.quote} quoted"
    if receipt.status in (REFUSED, FAILED):
        is_charged = payment.charged or plan is not None
        return f"a {receipt.status} call was charged" if is_charged else ""
    limit = receipt.sampling.max_tokens
    if tokens.output > limit:
        return f"{tokens.output} tokens came out, {limit} were allowed"
    time = plan.time if plan else NO_TIME
    quote = price_of(payment.price, tokens.input, limit, time.quoted)
    if payment.quote != quote:
        return f"quoted {payment.quote}, the price makes it {quote}"
    cost = price_of(payment.price, tokens.input, tokens.output, time.used)
    listed = due = quote if payment.scheme == "exact" else cost
    if plan is not None:
        if plan.listed != listed:
            return f"list price {plan.listed}, the price makes it {listed}"
        if fault := plan.fault():
            return fault
        due = plan.due
    if payment.charged != due:
        return f"charged {payment.charged}, price and tokens make it {due}"
    return ""


def _refused(check: int, message: str, signed: SignedReceipt) -> AuditError:
    return AuditError(check, message, evidence={"receipt": signed.bundle()})
