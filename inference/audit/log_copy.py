"""The auditor's copy of a log: every entry read, parsed and hashed by the auditor itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from inference.audit.bodies import parse_body
from inference.audit.chain_view import AuditTarget
from inference.audit.document import FormatError
from inference.audit.entry import RECEIPT, Entry, parse_entry
from inference.audit.log import GENESIS
from inference.audit.merkle import leaf_hash
from inference.audit.reader import LogReader
from inference.errors import AuditError
from inference.receipts import SignedReceipt, check_signature, receipt_domain

ENTRIES_CHECK: Final = 3
RECEIPTS_CHECK: Final = 4
# Hears how many entries are read of how many.
Progress: TypeAlias = Callable[[int, int], None]


@dataclass
class LogCopy:
    """Entries from 0 on, the leaf hash (32 bytes) of each, and the receipts among them by seq."""

    entries: list[Entry] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    receipts: dict[int, SignedReceipt] = field(default_factory=dict)

    def extend(self, log: LogReader, end: int, progress: Progress) -> None:
        """Read on up to entry `end`. Raises `AuditError` (3) at an entry without its form."""
        start = len(self.entries)
        for seq, data in enumerate(log.entries(start, end), start=start):
            self.entries.append(_entry(seq, data))
            self.leaves.append(leaf_hash(data))
            progress(seq + 1, end)

    def open_receipts(self, start: int = 0) -> None:
        """Parse the receipts from entry `start` on. Raises `AuditError` (4) at one without form."""
        for entry in self.entries[start:]:
            if entry.kind == RECEIPT:
                self.receipts[entry.seq] = _receipt(entry)

    def check_receipt(self, seq: int, target: AuditTarget) -> None:
        """Refuse, with `AuditError` (4), a receipt not signed by the node for this very place."""
        signed = self.receipts[seq]
        domain = receipt_domain(target.chain_id, target.anchor)
        check_signature(signed, node=target.node, domain=domain)
        evidence = {"seq": seq, "receipt": signed.public()}
        if signed.receipt.seq != seq:
            text = f"the receipt for {signed.receipt.seq} stands at {seq}"
            raise AuditError(RECEIPTS_CHECK, text, evidence=evidence)
        before = self.leaves[seq - 1] if seq else GENESIS
        if signed.receipt.prev != before:
            text = f"receipt {seq} was signed after another entry than stands before it"
            evidence["leafBefore"] = "0x" + before.hex()
            raise AuditError(RECEIPTS_CHECK, text, evidence=evidence)


def _entry(seq: int, data: bytes) -> Entry:
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


def _receipt(entry: Entry) -> SignedReceipt:
    try:
        signed = SignedReceipt.from_json(entry.body)
        if signed.salts is not None:
            raise FormatError("salts", "they belong to the payer, not into the log")
    except FormatError as error:
        text = f"entry {entry.seq}: {error.message}"
        evidence = {"seq": entry.seq, "body": entry.body}
        raise AuditError(RECEIPTS_CHECK, text, evidence=evidence) from error
    return signed
