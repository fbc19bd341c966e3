"""A proof, format `weightproof/proof@1`: one log entry with everything that shows it is logged.

It is saved while the node lives and verified without it, for ever. The entry is a receipt, or a
note such as that of a refund. Salts and bodies are there if whoever saved it wants to show what
was said; `anchored` and `record` are what the chain said then, and can be asked again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias

from inference.audit.bodies import parse_body
from inference.audit.document import (
    Address,
    AddressKind,
    BytesKind,
    Count,
    Digest,
    Document,
    FormatError,
    NestedKind,
    OptionalKind,
    TextKind,
)
from inference.audit.entry import RECEIPT, Entry, entry_from
from inference.audit.field_kinds import Base64Kind, ManyKind
from inference.receipts import Salts, SignedReceipt
from registry.errors import CanonicalError
from registry.signing.canonical import JsonValue, decode_object

# Bodies of 16 MiB are more than nodes take; in base64, twice, with everything else.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_BYTES: Final = 48 * 1024 * 1024
# A tree has below 2^63 leaves.
MAX_PATH: Final = 63
_MAX_ATTESTERS: Final = 1000

Path: TypeAlias = Annotated[tuple[bytes, ...], ManyKind(BytesKind(32), MAX_PATH)]
# Lines of printable text: ASCII, and the dash that begins a signature.
Note: TypeAlias = Annotated[str, TextKind("[ -~\n\u2014]+", limit=16 * 1024)]
Body: TypeAlias = Annotated[bytes | None, OptionalKind(Base64Kind(MAX_BODY_BYTES))]


class EntryKind:
    """A log entry inside a document; its body is read too."""

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the JSON object."""
        if not isinstance(value, Entry):
            raise FormatError(path, f"{type(value).__name__} where an entry belongs")
        return value.to_json()

    def load(self, value: object, path: str) -> Entry:
        """Return the entry."""
        try:
            entry = entry_from(value)
            if entry.kind == RECEIPT:
                signed_in(entry)
            else:
                parse_body(entry)
        except FormatError as error:
            inner = f"{path}.{error.path}" if error.path else path
            raise FormatError(inner, error.rule) from error
        return entry


@dataclass(frozen=True)
class Inclusion(Document):
    """The RFC 6962 audit path of the entry in the log of `size`, lowest sibling first."""

    size: Count
    path: Path


@dataclass(frozen=True)
class AnchoredFacts(Document):
    """A head that was anchored on chain, and the entry's audit path in it."""

    size: Count
    root: Digest
    block: Count
    transaction: Digest
    path: Path


@dataclass(frozen=True)
class RecordFacts(Document):
    """The model's record at the receipt's block: its publisher, and who vouched for it."""

    publisher: Address
    registered_at: Count
    attesters: Annotated[tuple[str, ...], ManyKind(AddressKind(), _MAX_ATTESTERS)]


@dataclass(frozen=True)
class Proof(Document):
    """One entry of the log that `node` keeps, anchored by the contract `anchor` of `chain`."""

    FORMAT: ClassVar[str] = "weightproof/proof@1"

    chain: Count
    anchor: Address
    node: Address
    entry: Annotated[Entry, EntryKind()]
    inclusion: Inclusion
    checkpoint: Note
    salts: Annotated[Salts | None, OptionalKind(NestedKind(Salts))] = None
    request: Body = None
    response: Body = None
    anchored: Annotated[AnchoredFacts | None, OptionalKind(NestedKind(AnchoredFacts))] = None
    record: Annotated[RecordFacts | None, OptionalKind(NestedKind(RecordFacts))] = None

    def __post_init__(self) -> None:
        """Refuse, with `FormatError`, parts that cannot belong together."""
        super().__post_init__()
        signed = self.signed
        if signed is not None and signed.receipt.node != self.node:
            raise FormatError("node", f"the receipt is by {signed.receipt.node}")
        if signed is None and self.salts is not None:
            raise FormatError("salts", f"a {self.entry.kind} has none")
        if self.salts is None and (self.request is not None or self.response is not None):
            raise FormatError("salts", "without them nobody can say what the bodies belong to")

    @property
    def signed(self) -> SignedReceipt | None:
        """The receipt with its salts; None where the entry is a note."""
        if self.entry.kind != RECEIPT:
            return None
        public = signed_in(self.entry)
        return SignedReceipt(public.receipt, public.signature, self.salts)


def signed_in(entry: Entry) -> SignedReceipt:
    """Return the receipt that an entry of that kind holds. Raises `FormatError`."""
    if "salts" in entry.body:
        raise FormatError("body.salts", "the log holds no salts")
    signed = SignedReceipt.from_json(entry.body)
    if signed.receipt.seq != entry.seq:
        raise FormatError("seq", f"entry {entry.seq} holds the receipt of {signed.receipt.seq}")
    return signed


def parse_proof(data: bytes) -> Proof:
    """Read a proof's canonical bytes. Raises `FormatError` with the field at fault."""
    try:
        value = decode_object(data, max_bytes=MAX_BYTES)
    except CanonicalError as error:
        raise FormatError("proof", str(error)) from error
    return Proof.from_json(value)
