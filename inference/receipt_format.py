"""The receipt, formats `weightproof/receipt@1` and `@2`: what the node states about one call.

Format 2 is format 1 and `payment.plan`: it is used where the price knows seconds, or a discount,
tier, coupon, trial or subscription has a part in the charge. Every field is always there. What a
call did not have is zero: a refusal that names no known model has ModelId 0x00…00, an `exact`
payment has no channel, a greedy classifier no sampling. Prompts and answers are bound by salted
hashes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Annotated, ClassVar, Final, TypeAlias

from inference.audit.document import (
    Address,
    Amount,
    Count,
    Decimal,
    Digest,
    Document,
    FormatError,
    NestedKind,
    Text,
    TextKind,
)
from inference.receipt_plan import PlanFacts
from registry.errors import CanonicalError
from registry.signing.canonical import decode_object

# A receipt takes about 2 KiB; the limit only bounds the work on foreign bytes.
MAX_BYTES: Final = 16 * 1024

OK: Final = "ok"
PARTIAL: Final = "partial"
# The payment was secured and no work begun; begun, and not brought to an end. Neither is charged.
REFUSED: Final = "refused"
FAILED: Final = "failed"

# As x402's payment-identifier: also safe in a URL.
ReceiptId: TypeAlias = Annotated[str, TextKind(r"[A-Za-z0-9_-]{16,66}", limit=66)]
Status: TypeAlias = Annotated[str, TextKind(r"ok|partial|refused|failed")]
Scheme: TypeAlias = Annotated[str, TextKind(r"batch-settlement|exact|none")]
Finish: TypeAlias = Annotated[str, TextKind(r"stop|length|cancelled|none")]
Network: TypeAlias = Annotated[str, TextKind(r"eip155:[1-9][0-9]{0,15}", limit=32)]


@dataclass(frozen=True)
class BlockFacts(Document):
    """The block at which the model's record was read."""

    number: Count
    hash: Digest


@dataclass(frozen=True)
class ModelFacts(Document):
    """Which model answered, and where its record stands. `chain` is a chain id."""

    name: Text
    chain: Count
    registry: Address
    model_id: Digest
    manifest_digest: Digest
    resident_digest: Digest
    block: BlockFacts


@dataclass(frozen=True)
class RuntimeFacts(Document):
    """What computed the answer.

    The name of an engine ends in ` exact` where the tokens depended on the call alone: replay in
    the same runtime must give the same ones. Otherwise rounding could tip a close choice.
    """

    engine: Text
    version: Text
    dtype: Text
    device: Text
    threads: Count

    @property
    def is_exact(self) -> bool:
        """Return whether the node states that nothing else had a part in the tokens."""
        return self.engine.endswith(" exact")


@dataclass(frozen=True)
class SamplingFacts(Document):
    """How tokens were chosen. Temperature 0 is greedy; `top_k` 0 means all."""

    seed: Count
    temperature: Decimal
    top_p: Decimal
    top_k: Count
    max_tokens: Count


@dataclass(frozen=True)
class TokenFacts(Document):
    """Digests (`token_digest`) and counts of the tokens that went in and came out."""

    input_digest: Digest
    output_digest: Digest
    input: Count
    output: Count


@dataclass(frozen=True)
class PriceFacts(Document):
    """The price the call was made at, in atomic units."""

    per_call: Amount
    input_per_million: Amount
    output_per_million: Amount


@dataclass(frozen=True)
class PaymentFacts(Document):
    """Who paid whom how much, in atomic units of `asset`.

    `channel` names the channel (batch-settlement), `nonce` the authorisation (exact); the other
    is zero. `cumulative` is the sum of all charges on the channel so far, this one included; for
    `exact` it equals `charged`. `transaction` is the transfer or deposit this call made on chain,
    zero if none. `x402_receipt` is the digest of the standard x402 receipt issued beside this one.
    """

    scheme: Scheme
    network: Network
    asset: Address
    payer: Address
    pay_to: Address
    channel: Digest
    nonce: Digest
    quote: Amount
    charged: Amount
    cumulative: Amount
    price: PriceFacts
    transaction: Digest
    x402_receipt: Digest


@dataclass(frozen=True)
class PlannedPaymentFacts(PaymentFacts):
    """The payment, and how its charge came about."""

    plan: PlanFacts


@dataclass(frozen=True)
class RequestFacts(Document):
    """The request: its path, and the salted hash of its body's bytes."""

    path: Text
    hash: Digest


@dataclass(frozen=True)
class ResponseFacts(Document):
    """The answer: why it ended, and the salted hash of its bytes.

    Of a stream, the bytes are all server-sent events before the one that carries the receipt.
    """

    finish: Finish
    hash: Digest


@dataclass(frozen=True)
class ReceiptFacts(Document):
    """What the paid call knows; the log adds where it stands. `served_at` is in unix seconds."""

    id: ReceiptId
    status: Status
    served_at: Count
    model: ModelFacts
    runtime: RuntimeFacts
    sampling: SamplingFacts
    tokens: TokenFacts
    payment: PaymentFacts
    request: RequestFacts
    response: ResponseFacts


@dataclass(frozen=True)
class PlannedReceiptFacts(ReceiptFacts):
    """What the paid call knows, where a plan had a part in its charge."""

    payment: PlannedPaymentFacts


@dataclass(frozen=True)
class Receipt(ReceiptFacts):
    """The facts, at index `seq` of the log of `node`, after the entry with leaf hash `prev`."""

    FORMAT: ClassVar[str] = "weightproof/receipt@1"

    seq: Count
    prev: Digest
    node: Address

    @classmethod
    def of(cls, facts: ReceiptFacts, *, seq: int, prev: bytes, node: str) -> Receipt:
        """Place facts in the log, in the format that can state them."""
        kind = PlannedReceipt if isinstance(facts, PlannedReceiptFacts) else Receipt
        values = {field.name: getattr(facts, field.name) for field in fields(ReceiptFacts)}
        return kind(**values, seq=seq, prev=prev, node=node)

    def encode(self) -> bytes:
        """Return the canonical bytes: made once, they are signed and stored."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        return super().encode()

    @property
    def plan(self) -> PlanFacts | None:
        """How the charge came about, None where it is the list price of tokens alone."""
        return None


@dataclass(frozen=True)
class PlannedReceipt(Receipt):
    """A receipt of format 2."""

    FORMAT: ClassVar[str] = "weightproof/receipt@2"

    payment: PlannedPaymentFacts

    @property
    def plan(self) -> PlanFacts:
        """How the charge came about."""
        return self.payment.plan


class ReceiptKind(NestedKind):
    """A receipt inside a document, of any format known here."""

    def __init__(self) -> None:
        super().__init__(Receipt)

    def check(self, value: object, path: str) -> Document:
        """Refuse anything but a receipt."""
        if not isinstance(value, Receipt):
            raise FormatError(path, f"{type(value).__name__} where a receipt belongs")
        return value

    def load(self, value: object, path: str) -> Receipt:
        """Return the receipt, by the format it names."""
        named = value.get("format") if isinstance(value, Mapping) else None
        kind = PlannedReceipt if named == PlannedReceipt.FORMAT else Receipt
        return kind.from_json(value, path)


def parse_receipt(data: bytes) -> Receipt:
    """Read a receipt's canonical bytes. Raises `FormatError` with the field at fault."""
    try:
        value = decode_object(data, max_bytes=MAX_BYTES)
    except CanonicalError as error:
        raise FormatError("receipt", str(error)) from error
    return ReceiptKind().load(value, "receipt")
