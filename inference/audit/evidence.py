"""Evidence that a node lied: a document that anybody checks offline, and a contract pays for.

Every lie is two statements of the node's own key that cannot both be true:

========  =========================================================================================
fork      two heads of one size with different roots
twins     two different receipts with one sequence number
rewrite   two heads that hold different leaves at one place: the later does not extend the earlier
drop      where a signed receipt belongs, a signed head holds another leaf
silence   two heads of which the node will not show that the later extends the earlier
========  =========================================================================================

The first four are proofs. The last is a question: the contract puts it to the node, which answers
within its window or loses its bond. The document is canonical JSON (RFC 8785), so one piece of
evidence has one text; `node`, `chain` and `anchor` say in which domain everything is signed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias

from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, CheckpointError, checkpoint_domain
from inference.audit.document import (
    Address,
    BytesKind,
    Count,
    Digest,
    Document,
    FormatError,
    NestedKind,
    Signature,
    TextKind,
)
from inference.audit.field_kinds import ManyKind
from inference.audit.merkle import ProofError
from inference.errors import AuditError, NodeError
from inference.receipts import (
    LoggedReceipt,
    SignedReceipt,
    check_signature,
    receipt_domain,
    signing_digest,
)
from registry.errors import CanonicalError, SignatureError
from registry.signing.canonical import JsonValue, decode_object
from registry.signing.signer import recover

FORMAT: Final = "weightproof/evidence@1"
# Two receipts take 32 KiB at the most, two proofs 8.
MAX_BYTES: Final = 64 * 1024
# A tree of 2^53 leaves, what JSON can count, has paths of 53 hashes.
MAX_PATH: Final = 53
Origin: TypeAlias = Annotated[str, TextKind(r"[!-*,-~]{1,200}")]


class EvidenceError(NodeError):
    """A document in the form of evidence that shows nothing. The message says why."""

    exit_code = 3


class _ReceiptKind(NestedKind):
    """A signed receipt as the log holds it: without salts, which are the payer's."""

    def __init__(self) -> None:
        super().__init__(LoggedReceipt)

    def dump(self, value: object, path: str) -> JsonValue:
        """Return receipt and signature."""
        if not isinstance(value, SignedReceipt) or value.salts is not None:
            raise FormatError(path, "a signed receipt without salts belongs here")
        return value.public()

    def load(self, value: object, path: str) -> object:
        """Return the signed receipt."""
        if isinstance(value, Mapping) and "salts" in value:
            raise FormatError(f"{path}.salts", "they belong to the payer, not into evidence")
        try:
            return SignedReceipt.from_json(value)
        except FormatError as error:
            raise FormatError(f"{path}.{error.path}".rstrip("."), error.rule) from error


@dataclass(frozen=True)
class Head(Document):
    """The head of a log as a node signed it."""

    size: Count
    root: Digest
    signature: Signature


@dataclass(frozen=True)
class Inclusion(Document):
    """That the leaf hash `leaf` stands at a place of a tree: lowest sibling first."""

    leaf: Digest
    path: Annotated[tuple[bytes, ...], ManyKind(BytesKind(merkle.HASH_BYTES), MAX_PATH)]


@dataclass(frozen=True)
class Evidence(Document):
    """What all evidence says: against whom, and in which domain it signed."""

    FORMAT: ClassVar[str] = FORMAT
    # Whether it shows a lie by itself, without the chain asking the node.
    PROVES: ClassVar[bool] = True

    chain: Count
    anchor: Address
    node: Address

    @property
    @abstractmethod
    def lie(self) -> str:
        """Which lie it shows."""

    @property
    @abstractmethod
    def claim(self) -> str:
        """What it shows, as the end of a sentence that begins with the node."""

    @abstractmethod
    def check(self) -> None:
        """Raise `EvidenceError` unless it shows what it claims. Asks nobody."""

    def _check_receipt(self, signed: SignedReceipt) -> None:
        try:
            check_signature(signed, node=self.node, domain=receipt_domain(self.chain, self.anchor))
        except AuditError as error:
            text = error.message.removeprefix(f"check {error.check}: ")
            raise EvidenceError(f"{text} of chain {self.chain}") from error


@dataclass(frozen=True)
class _OfHeads(Evidence):
    """Evidence with heads of the log `origin` in it."""

    origin: Origin

    def _check_head(self, head: Head, which: str) -> None:
        try:
            checkpoint = Checkpoint(self.origin, head.size, head.root)
            domain = checkpoint_domain(self.chain, self.anchor)
            signer = recover(checkpoint.digest(domain), head.signature)
        except (CheckpointError, SignatureError) as error:
            raise EvidenceError(f"the {which} head: {error.message}") from error
        if signer != self.node:
            raise EvidenceError(f"the {which} head is signed by {signer}, not by {self.node}")

    def _check_found(self, head: Head, found: Inclusion, index: int, which: str) -> None:
        try:
            merkle.verify_inclusion(found.leaf, index, head.size, found.path, head.root)
        except ProofError as error:
            raise EvidenceError(f"the proof in the {which} head: {error.message}") from error


@dataclass(frozen=True)
class Fork(_OfHeads):
    """Two heads of one size with different roots."""

    first: Head
    second: Head
    lie: Annotated[str, TextKind("fork")] = "fork"

    @property
    def claim(self) -> str:
        """What it shows."""
        return f"signed two different logs of {self.first.size} entries"

    def check(self) -> None:
        """Raise `EvidenceError` unless both are the node's, of one size, and differ."""
        if self.first.size != self.second.size:
            sizes = f"{self.first.size} and {self.second.size}"
            raise EvidenceError(f"heads of {sizes} entries are no fork: a log may grow")
        if self.first.root == self.second.root:
            raise EvidenceError("both heads say the same: that is no fork")
        self._check_head(self.first, "first")
        self._check_head(self.second, "second")


@dataclass(frozen=True)
class Twins(Evidence):
    """Two different receipts with one sequence number."""

    first: Annotated[SignedReceipt, _ReceiptKind()]
    second: Annotated[SignedReceipt, _ReceiptKind()]
    lie: Annotated[str, TextKind("twins")] = "twins"

    @property
    def claim(self) -> str:
        """What it shows."""
        return f"signed two different receipts with the number {self.first.receipt.seq}"

    def check(self) -> None:
        """Raise `EvidenceError` unless both are the node's, of one number, and differ."""
        first, second = self.first.receipt, self.second.receipt
        if first.seq != second.seq:
            raise EvidenceError(f"receipts {first.seq} and {second.seq} are no twins")
        domain = receipt_domain(self.chain, self.anchor)
        if signing_digest(first, domain) == signing_digest(second, domain):
            raise EvidenceError("both are the same receipt: that is no lie")
        self._check_receipt(self.first)
        self._check_receipt(self.second)


@dataclass(frozen=True)
class Rewrite(_OfHeads):
    """Two heads that hold different leaves at `index`."""

    index: Count
    first: Head
    in_first: Inclusion
    second: Head
    in_second: Inclusion
    lie: Annotated[str, TextKind("rewrite")] = "rewrite"

    @property
    def claim(self) -> str:
        """What it shows."""
        sizes = f"{self.first.size} and {self.second.size} entries"
        return f"signed logs of {sizes} that differ at entry {self.index}"

    def check(self) -> None:
        """Raise `EvidenceError` unless both are the node's and hold different leaves there."""
        if self.in_first.leaf == self.in_second.leaf:
            raise EvidenceError("both heads hold the same leaf there: nothing was rewritten")
        self._check_found(self.first, self.in_first, self.index, "first")
        self._check_found(self.second, self.in_second, self.index, "second")
        self._check_head(self.first, "first")
        self._check_head(self.second, "second")


@dataclass(frozen=True)
class Drop(_OfHeads):
    """Where a signed receipt belongs, a signed head holds another leaf."""

    head: Head
    found: Inclusion
    receipt: Annotated[SignedReceipt, _ReceiptKind()]
    lie: Annotated[str, TextKind("drop")] = "drop"

    @property
    def claim(self) -> str:
        """What it shows."""
        seq = self.receipt.receipt.seq
        return f"signed receipt {seq}, and a log of {self.head.size} entries without it"

    def check(self) -> None:
        """Raise `EvidenceError` unless both are the node's and the receipt's place is taken."""
        if self.receipt.entry().leaf() == self.found.leaf:
            raise EvidenceError("the receipt is in the log: it was not dropped")
        self._check_found(self.head, self.found, self.receipt.receipt.seq, "signed")
        self._check_head(self.head, "signed")
        self._check_receipt(self.receipt)


@dataclass(frozen=True)
class Silence(_OfHeads):
    """Two heads of which the node will not show that the later extends the earlier."""

    PROVES: ClassVar[bool] = False

    earlier: Head
    later: Head
    lie: Annotated[str, TextKind("silence")] = "silence"

    @property
    def claim(self) -> str:
        """What it asks."""
        sizes = f"{self.later.size} entries extends that of {self.earlier.size}"
        return f"must show that its log of {sizes}"

    def check(self) -> None:
        """Raise `EvidenceError` unless both are the node's and the contract can ask."""
        if not 0 < self.earlier.size < self.later.size:
            sizes = f"{self.earlier.size} and {self.later.size}"
            raise EvidenceError(f"of heads of {sizes} entries nothing can be asked")
        self._check_head(self.earlier, "earlier")
        self._check_head(self.later, "later")


LIES: Final[Mapping[str, type[Evidence]]] = {
    "fork": Fork,
    "twins": Twins,
    "rewrite": Rewrite,
    "drop": Drop,
    "silence": Silence,
}


def parse_evidence(data: bytes) -> Evidence:
    """Read one canonical document. Raises `FormatError` with the field at fault."""
    try:
        value = decode_object(data, max_bytes=MAX_BYTES)
    except CanonicalError as error:
        raise FormatError("", f"not evidence: {error.message}") from error
    return evidence_from(value)


def evidence_from(value: object) -> Evidence:
    """Read a decoded document. Raises `FormatError` with the field at fault."""
    if not isinstance(value, Mapping):
        raise FormatError("", f"{type(value).__name__} where evidence belongs")
    if value.get("format") != FORMAT:
        text = f"{value.get('format')!r:.60} is not {FORMAT}, the one known here"
        raise FormatError("format", text)
    lie = value.get("lie")
    if not isinstance(lie, str) or lie not in LIES:
        raise FormatError("lie", f"{lie!r:.60} is none of {', '.join(LIES)}")
    return LIES[lie].from_json(value)
