"""Disclosure: who may see what a call said, and what a node answers to whoever asks.

A call is replayed from its request, and the request is its payer's. So it leaves the node only

1. for an auditor that signed its question, lately, to this very node
2. by a right: the auditor is the payer, or the payer signed a consent that names this auditor or
   nobody in particular, and that has not run out; a payer that is a contract is asked (EIP-1271)
   each time, for it may change its mind
3. for a call that the consent names, or, where it names none, for one that the beacon chose at the
   rate it states

A node that has the right question and does not answer signs a refusal, which joins its log: hiding
leaves a record. A question without the right is answered by an error and leaves none, or anybody
could fill the log. All signatures are EIP-712, in a domain of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias

from inference.audit.beacon import EVERY
from inference.audit.document import (
    ZERO_ADDRESS,
    Address,
    Count,
    CountKind,
    Digest,
    Document,
    ListKind,
    Signature,
    Text,
    TextKind,
)
from inference.audit.field_kinds import BlobKind, IdsKind
from inference.errors import AuditError, NodeError
from inference.receipt_format import Receipt, ReceiptId
from inference.receipts import Salts
from registry.errors import SignatureError
from registry.signing.signer import Signer, recover
from registry.signing.typed_data import Domain, Struct

# A request and its consent take about 1 KiB.
MAX_REQUEST_BYTES: Final = 4096
# Seconds by which the clocks of auditor and node may differ, and a question may be old.
FRESH_S: Final = 300
# Bounds the work on foreign answers: the longest body a node can be set to read, and its tokens.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_IDS: Final = 1024 * 1024
_MAX_SIGNATURE: Final = 1024
# Why a node refuses.
NOT_KEPT: Final = "not kept"

_CONSENT: Final = Struct(
    "DisclosureConsent",
    {
        "node": "address",
        "payer": "address",
        "auditor": "address",
        "receipt": "string",
        "rate": "uint64",
        "until": "uint64",
    },
)
_REQUEST: Final = Struct(
    "DisclosureRequest",
    {"node": "address", "auditor": "address", "receipt": "string", "at": "uint64"},
)
_REFUSAL: Final = Struct(
    "DisclosureRefusal",
    {"node": "address", "receipt": "string", "request": "bytes32", "why": "string", "at": "uint64"},
)


class NotAllowedError(NodeError):
    """Whoever asks has no right to see the call."""

    status = 403
    code = "disclosure_not_allowed"


# Says of a payer that is a contract whether it takes a signature (bytes) for a digest (32 bytes).
Confirms: TypeAlias = Callable[[str, bytes, bytes], bool]
Blob: TypeAlias = Annotated[bytes, BlobKind(MAX_BODY_BYTES)]
TokenIds: TypeAlias = Annotated[tuple[int, ...], IdsKind(MAX_IDS)]
# A key's has 65 bytes, a contract's (EIP-1271) any number: one of a few keys, or of a passkey.
PayerSignature: TypeAlias = Annotated[bytes, BlobKind(_MAX_SIGNATURE)]
# Empty where a consent is about every call that the beacon chooses.
Subject: TypeAlias = Annotated[str, TextKind(r"([A-Za-z0-9_-]{16,66})?", limit=66)]


def disclosure_domain(chain_id: int, anchor: str) -> Domain:
    """Return the EIP-712 domain: as receipts do, disclosures belong to the log at `anchor`."""
    return Domain("Weightproof Disclosure", "1", chain_id, anchor)


@dataclass(frozen=True)
class Consent(Document):
    """A payer lets calls be seen that it made at `node`: one, or those that the beacon chose.

    `auditor` may see them, anybody where it is zero; `rate` is how many of ten thousand calls may
    be seen, where `receipt` names none; it ends at the unix second `until`.
    """

    FORMAT: ClassVar[str] = "weightproof/consent@1"

    node: Address
    payer: Address
    auditor: Address
    receipt: Subject
    rate: Annotated[int, CountKind(EVERY)]
    until: Count
    signature: PayerSignature

    @classmethod
    def give(
        cls,
        payer: Signer,
        domain: Domain,
        *,
        node: str,
        until: int,
        auditor: str = ZERO_ADDRESS,
        receipt: str = "",
        rate: int = EVERY,
        wallet: str = "",
    ) -> Consent:
        """Sign a consent as the payer, or for the contract `wallet` where that is the payer.

        The contract alone knows whose signature it takes: none of it is checked here.
        """
        who = wallet or payer.address
        empty = cls(node, who, auditor, receipt, rate, until, bytes(65))
        signature = payer.sign_digest(empty.digest(domain))
        return cls(node, who, auditor, receipt, rate, until, signature)

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that the payer signs."""
        return _digest(_CONSENT, self, domain)


@dataclass(frozen=True)
class DisclosureRequest(Document):
    """An auditor asks `node`, at the unix second `at`, for one call; with a payer's consent."""

    FORMAT: ClassVar[str] = "weightproof/disclosure-request@1"

    node: Address
    auditor: Address
    receipt: ReceiptId
    at: Count
    consents: Annotated[tuple[Consent, ...], ListKind(Consent, 1)]
    signature: Signature

    @classmethod
    def ask(
        cls,
        auditor: Signer,
        domain: Domain,
        *,
        node: str,
        receipt: str,
        at: int,
        consent: Consent | None = None,
    ) -> DisclosureRequest:
        """Sign a request as the auditor."""
        consents = (consent,) if consent else ()
        empty = cls(node, auditor.address, receipt, at, consents, bytes(65))
        signature = auditor.sign_digest(empty.digest(domain))
        return cls(node, auditor.address, receipt, at, consents, signature)

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that the auditor signs."""
        return _digest(_REQUEST, self, domain)


@dataclass(frozen=True)
class Disclosed(Document):
    """What a node tells of a call: its receipt binds every byte of it."""

    FORMAT: ClassVar[str] = "weightproof/disclosure@1"

    receipt: ReceiptId
    request: Blob
    salts: Salts
    output_ids: TokenIds


@dataclass(frozen=True)
class Refusal(Document):
    """A node does not tell, says why, and signs that it was rightly asked.

    `request` is the digest of the request it refuses: whoever asked can show that it did.
    """

    node: Address
    receipt: ReceiptId
    request: Digest
    why: Text
    at: Count
    signature: Signature

    @classmethod
    def sign(
        cls, node: Signer, domain: Domain, request: DisclosureRequest, *, why: str, at: int
    ) -> Refusal:
        """Refuse a request as the node."""
        digest = request.digest(domain)
        empty = cls(node.address, request.receipt, digest, why, at, bytes(65))
        signature = node.sign_digest(_digest(_REFUSAL, empty, domain))
        return cls(node.address, request.receipt, digest, why, at, signature)

    def check(self, node: str, domain: Domain) -> None:
        """Raise `AuditError` (8) unless `node` signed this refusal."""
        signer = _signer(_digest(_REFUSAL, self, domain), self.signature)
        if not self.node == node == signer:
            evidence: dict[str, object] = {"refusal": self.to_json()}
            raise AuditError(8, f"a refusal that {node} did not sign", evidence=evidence)


def check_request(
    request: DisclosureRequest,
    receipt: Receipt,
    domain: Domain,
    *,
    now: int,
    chooses: Callable[[int, int], bool],
    confirms: Confirms = lambda _payer, _digest, _signature: False,
) -> None:
    """Take the three steps above. Raises `NotAllowedError` that says which one failed.

    `now` is in unix seconds; `chooses` says of an entry's index and a rate what the beacon does;
    `confirms` asks a payer that is a contract. Both may ask the chain, and come last: `chooses`,
    which asks it for more, only for a consent that its payer gave.
    """
    if request.node != receipt.node or request.receipt != receipt.id:  # 1
        raise NotAllowedError("the request is to another node, or about another call")
    if abs(now - request.at) > FRESH_S:
        raise NotAllowedError(f"the request was signed more than {FRESH_S} seconds from now")
    if _signer(request.digest(domain), request.signature) != request.auditor:
        raise NotAllowedError("the request is not signed by the auditor it names")
    payer = receipt.payment.payer
    if request.auditor == payer:  # 2
        return
    if not request.consents:
        raise NotAllowedError("only its payer may see this call, and whom its payer allows to")
    [consent] = request.consents
    if (consent.node, consent.payer) != (receipt.node, payer):
        raise NotAllowedError("the consent is about another node's or another payer's calls")
    if consent.auditor not in (ZERO_ADDRESS, request.auditor):
        raise NotAllowedError("the consent is for another auditor")
    if now >= consent.until:
        raise NotAllowedError("the consent has run out")
    if consent.receipt not in ("", receipt.id):  # 3
        raise NotAllowedError("the consent is about another call")
    digest, signature = consent.digest(domain), consent.signature
    if _signer(digest, signature) != payer and not confirms(payer, digest, signature):
        raise NotAllowedError("the consent is not signed by the call's payer")
    every = consent.receipt or consent.rate == EVERY
    if not every and not chooses(receipt.seq, consent.rate):
        raise NotAllowedError(f"the beacon did not choose this call at {consent.rate} of {EVERY}")


def _digest(struct: Struct, document: Document, domain: Domain) -> bytes:
    values = {name: getattr(document, name) for name in struct.fields}
    return struct.digest(domain.separator(), values)


def _signer(digest: bytes, signature: bytes) -> str:
    """Return who signed, or nobody."""
    try:
        return recover(digest, signature)
    except SignatureError:
        return ""
