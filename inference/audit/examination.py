"""Entries examined one by one: what of checks 3 to 5 needs nothing but the entry itself.

Pure and without memory, so that pages of entries are examined in several processes at once; what
spans entries (order, sums, ids, models) is added up by whoever gets the findings, in the log's
order. A receipt is read by its grammar; what that does not match is read by the strict parser,
which alone decides and which alone makes evidence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from inference.audit.bodies import AnchorBody, SettlementBody, parse_body
from inference.audit.document import FormatError
from inference.audit.entry import ANCHOR, FORMAT, RECEIPT, SETTLEMENT, Entry, parse_entry
from inference.audit.grammar import COUNT, Grammar
from inference.audit.merkle import leaf_hash
from inference.audit.target import AuditTarget
from inference.errors import AuditError
from inference.receipt_format import PlannedReceipt, Receipt
from inference.receipts import (
    RECEIPT_STRUCT,
    SignedReceipt,
    charge_fault,
    check_charge,
    check_signature,
    receipt_domain,
)
from registry.errors import SignatureError
from registry.signing.keccak import keccak
from registry.signing.signer import recover
from registry.signing.typed_data import Domain

ENTRIES_CHECK: Final = 3
RECEIPTS_CHECK: Final = 4
_TYPE_HASH: Final = RECEIPT_STRUCT.type_hash()

# The model a receipt names: chain, registry, ModelId, manifest digest, block number and hash.
ModelKey: TypeAlias = tuple[int, str, bytes, bytes, int, bytes]


class Finding(NamedTuple):
    """An `AuditError` as it travels between processes."""

    check: int
    message: str
    evidence: dict[str, Any]

    @classmethod
    def of(cls, error: AuditError) -> Finding:
        """Take an error apart."""
        return cls(error.check, error.detail, error.evidence)

    def error(self) -> AuditError:
        """Put it together again."""
        return AuditError(self.check, self.message, evidence=self.evidence)


class Call(NamedTuple):
    """What the auditor keeps of a receipt; amounts in atomic units, times in unix seconds.

    `id` is 8 bytes of the receipt's, hashed, `request` 8 of its request's salted hash. `key` names
    the authorisation (token, payer, nonce) of an `exact` charge, else it is None. `is_planned` says
    that a plan had a part in the charge: then the receipt is read once more.
    """

    id: int
    request: int
    status: str
    served_at: int
    model: ModelKey
    prev: bytes
    network: str
    payer: str
    scheme: str
    channel: bytes
    charged: int
    cumulative: int
    key: tuple[str, str, bytes] | None
    is_planned: bool


class Row(NamedTuple):
    """One entry: its leaf hash, its receipt if it is one that could be read, or what it tells.

    `finding` is of check 3 or 4 where the entry or the receipt has not its form; `signature` and
    `charge` are of a receipt that has.
    """

    leaf: bytes
    kind: str = ""
    call: Call | None = None
    settlement: SettlementBody | None = None
    anchor: AnchorBody | None = None
    finding: Finding | None = None
    signature: Finding | None = None
    charge: Finding | None = None


@dataclass(frozen=True)
class Examiner:
    """Examines the entries of one log."""

    target: AuditTarget

    def page(self, start: int, page: Sequence[bytes]) -> list[Row]:
        """Return a row an entry; the entries begin at index `start` of the log."""
        domain = receipt_domain(self.target.chain_id, self.target.anchor)
        return [self._row(seq, data, domain) for seq, data in enumerate(page, start=start)]

    def _row(self, seq: int, data: bytes, domain: Domain) -> Row:
        bare = read_bare(data)
        if bare is not None and self._is_good(seq, bare, domain):
            return Row(leaf_hash(data), RECEIPT, call_of(bare.receipt))
        return self._slowly(seq, data, domain)

    def _is_good(self, seq: int, signed: SignedReceipt, domain: Domain) -> bool:
        receipt = signed.receipt
        if (receipt.seq, receipt.node) != (seq, self.target.node) or charge_fault(receipt):
            return False
        try:
            return recover(quick_digest(receipt, domain), signed.signature) == receipt.node
        except SignatureError:
            return False

    def _slowly(self, seq: int, data: bytes, domain: Domain) -> Row:
        leaf = leaf_hash(data)
        try:
            entry = open_entry(seq, data)
            if entry.kind == SETTLEMENT:
                return Row(leaf, SETTLEMENT, settlement=SettlementBody.from_json(entry.body))
            if entry.kind == ANCHOR:
                return Row(leaf, ANCHOR, anchor=AnchorBody.from_json(entry.body))
            if entry.kind != RECEIPT:
                return Row(leaf, entry.kind)
            signed = open_receipt(entry)
        except AuditError as error:
            return Row(leaf, finding=Finding.of(error))
        found = [_finding(check_place, signed, seq, self.target, domain)]
        found.append(_finding(check_charge, signed))
        signature, charge = found
        return Row(leaf, RECEIPT, call_of(signed.receipt), signature=signature, charge=charge)


def open_entry(seq: int, data: bytes) -> Entry:
    """Return entry `seq`. Raises `AuditError` (3) at one without its form, or of another place."""
    evidence = {"seq": seq, "entry": data.decode("utf-8", errors="replace")}
    try:
        entry = parse_entry(data)
        if entry.kind != RECEIPT:
            parse_body(entry)
    except FormatError as error:
        text = f"entry {seq}: {error.message}"
        raise AuditError(ENTRIES_CHECK, text, evidence=evidence) from error
    if entry.seq != seq:
        text = f"entry {entry.seq} stands at {seq}"
        raise AuditError(ENTRIES_CHECK, text, evidence=evidence)
    return entry


def open_receipt(entry: Entry) -> SignedReceipt:
    """Return the receipt that an entry holds. Raises `AuditError` (4) at one without form."""
    try:
        signed = SignedReceipt.from_json(entry.body)
        if signed.salts is not None:
            raise FormatError("salts", "they belong to the payer, not into the log")
    except FormatError as error:
        text = f"entry {entry.seq}: {error.message}"
        evidence = {"seq": entry.seq, "body": entry.body}
        raise AuditError(RECEIPTS_CHECK, text, evidence=evidence) from error
    return signed


def check_place(signed: SignedReceipt, seq: int, target: AuditTarget, domain: Domain) -> None:
    """Refuse, with `AuditError` (4), a receipt not signed by the node for this very place."""
    check_signature(signed, node=target.node, domain=domain)
    if signed.receipt.seq != seq:
        text = f"the receipt for {signed.receipt.seq} stands at {seq}"
        evidence = {"seq": seq, "receipt": signed.public()}
        raise AuditError(RECEIPTS_CHECK, text, evidence=evidence)


def read_bare(data: bytes) -> SignedReceipt | None:
    """Return the receipt of an entry's canonical bytes, for reading only; None: ask the parser."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return None
    for grammar, pattern in _patterns():
        if found := pattern.fullmatch(text):
            _, *groups, signature, seq = found.groups()
            receipt = grammar.build(tuple(groups))
            if receipt is None or receipt.seq != int(seq):
                return None
            # Its own bytes, which were signed, are a part of the entry's.
            receipt.__dict__["_bytes"] = data[found.start(1) : found.end(1)]
            return SignedReceipt(receipt, bytes.fromhex(signature))
    return None


def quick_digest(receipt: Receipt, domain: Domain) -> bytes:
    """Return `signing_digest` of a receipt whose values are checked, in half the time."""
    payment = receipt.payment
    struct = (
        _TYPE_HASH
        + hashlib.sha256(receipt.encode()).digest()
        + receipt.model.model_id
        + bytes.fromhex(payment.payer[2:]).rjust(32, b"\0")
        + payment.charged.to_bytes(32)
        + receipt.request.hash
        + receipt.response.hash
        + receipt.seq.to_bytes(32)
    )
    return keccak(b"\x19\x01" + domain.separator() + keccak(struct))


@cache
def _patterns() -> tuple[tuple[Grammar[Receipt], re.Pattern[str]], ...]:
    """Return what an entry with a receipt of each format looks like."""
    made = []
    for grammar in (Grammar[Receipt](Receipt), Grammar[Receipt](PlannedReceipt)):
        source = (
            rf'\{{"body":\{{"receipt":({grammar.source}),"signature":"0x([0-9a-f]{{130}})"\}},'
            rf'"format":"{re.escape(FORMAT)}","kind":"{RECEIPT}","seq":{COUNT}\}}'
        )
        made.append((grammar, re.compile(source, re.ASCII)))
    return tuple(made)


def call_of(receipt: Receipt) -> Call:
    """Return what the auditor keeps of a receipt."""
    model, payment = receipt.model, receipt.payment
    is_exact = payment.scheme == "exact" and not any(payment.channel)
    return Call(
        int.from_bytes(hashlib.sha256(receipt.id.encode()).digest()[:8]),
        int.from_bytes(receipt.request.hash[:8]),
        receipt.status,
        receipt.served_at,
        _model_key(
            model.chain,
            model.registry,
            model.model_id,
            model.manifest_digest,
            model.block.number,
            model.block.hash,
        ),
        receipt.prev,
        payment.network,
        payment.payer,
        payment.scheme,
        payment.channel,
        payment.charged,
        payment.cumulative,
        (payment.asset, payment.payer, payment.nonce) if is_exact and payment.charged else None,
        receipt.plan is not None,
    )


@lru_cache(maxsize=1024)
def _model_key(*parts: Any) -> ModelKey:
    """Return one object for one model, which is sent to another process once a page."""
    return parts


def _finding(check: Callable[..., None], *arguments: object) -> Finding | None:
    try:
        check(*arguments)
    except AuditError as error:
        return Finding.of(error)
    return None
