"""Evidence as files: one for each finding, and one more where the contract or anybody takes it.

`check-2-….finding.json` holds what the auditor saw: whose log, which check, the detail, the
evidence. `check-2-….fork.json` (and twins, drop, rewrite, silence) is a document of
`inference.audit.evidence`: two statements of the node's own key, to be checked offline or paid for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from inference.audit.accusation import Accused, head_of
from inference.audit.checkpoint import CheckpointError, SignedCheckpoint, checkpoint_domain, verify
from inference.audit.document import BytesKind, CountKind, FormatError
from inference.audit.entry import entry_from
from inference.audit.evidence import Evidence, EvidenceError, Head
from inference.audit.field_kinds import ManyKind
from inference.audit.report import CheckResult, Report
from inference.audit.target import AuditTarget
from inference.receipts import SignedReceipt
from inference.whole_file import write_whole

FORMAT: Final = "weightproof/finding@1"
_NOT_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")
_PATH: Final = ManyKind(BytesKind(32), 128)


def write_findings(report: Report, target: AuditTarget, folder: Path) -> tuple[Path, ...]:
    """Write every finding of a report into `folder`, which is made; return the files."""
    written: list[Path] = []
    for check in (found for failed in report.failed for found in (failed, *failed.more)):
        name = f"check-{check.number}-{_subject(check)}"
        if folder / f"{name}.finding.json" in written:  # two findings about one thing
            name += f"-{len(written)}"
        finding = folder / f"{name}.finding.json"
        write_whole(finding, _finding(report, target, check))
        written.append(finding)
        for shown in proofs_in(check, target):
            path = folder / f"{name}.{shown.lie}.json"
            write_whole(path, shown.encode())
            written.append(path)
    return tuple(written)


def proofs_in(check: CheckResult, target: AuditTarget) -> Iterator[Evidence]:
    """Yield what of a finding stands alone, each checked."""
    for found in _Proofs(check, target).found():
        with suppress(EvidenceError):
            found.check()
            yield found


class _Proofs:
    """Reads a finding's evidence as strictly as if a stranger had sent it."""

    def __init__(self, check: CheckResult, target: AuditTarget) -> None:
        self._evidence: dict[str, Any] = dict(check.evidence)
        self._target = target
        self._accused = Accused(target.chain_id, target.anchor, target.node, target.origin)

    def found(self) -> Iterator[Evidence]:
        """Yield what the evidence allows."""
        head = self._head("checkpoint")
        earlier = self._head("known") or self._anchored()
        receipt, before = self._receipt("receipt"), self._receipt("before")
        with suppress(FormatError):
            if head and earlier and (heads := self._accused.heads(earlier, head)):
                yield heads
            if receipt and before and receipt.receipt.seq == before.receipt.seq:
                yield self._accused.twins(before, receipt)
            if receipt and "entry" in self._evidence and isinstance(self._evidence["entry"], dict):
                yield from self._in_the_place_of(receipt, head)

    def _in_the_place_of(self, receipt: SignedReceipt, head: Head | None) -> Iterator[Evidence]:
        seq = receipt.receipt.seq
        other = self._receipt("entry")
        if other and other.receipt.seq == seq:
            yield self._accused.twins(other, receipt)
        entry = entry_from({"format": "weightproof/entry@1", "seq": seq} | self._stood())
        path = _PATH.load(self._evidence.get("proof"), "proof")
        if head and isinstance(path, tuple):
            yield self._accused.drop(head, receipt, entry.leaf(), path)

    def _stood(self) -> dict[str, object]:
        return {"kind": self._evidence.get("kind", "receipt"), "body": self._evidence["entry"]}

    def _head(self, name: str) -> Head | None:
        note = self._evidence.get(name)
        if not isinstance(note, str):
            return None
        target = self._target
        domain = checkpoint_domain(target.chain_id, target.anchor)
        try:
            signed: SignedCheckpoint = verify(note, target.node, domain, origin=target.origin)
        except CheckpointError:
            return None
        return head_of(signed)

    def _anchored(self) -> Head | None:
        shown = self._evidence.get("anchored")
        if not isinstance(shown, dict) or "signature" not in shown:
            return None
        with suppress(FormatError, KeyError):
            size = CountKind().load(shown["size"], "size")
            root = BytesKind(32).load(shown["root"], "root")
            return Head(int(str(size)), root, BytesKind(65).load(shown["signature"], "signature"))
        return None

    def _receipt(self, name: str) -> SignedReceipt | None:
        with suppress(FormatError):
            return SignedReceipt.from_json(self._evidence.get(name))
        return None


def _subject(check: CheckResult) -> str:
    """Return what a finding is about, as a part of a file's name."""
    evidence: Any = check.evidence
    receipt = evidence.get("receipt")
    if isinstance(receipt, dict) and isinstance(inner := receipt.get("receipt"), dict):
        return _NOT_A_NAME.sub("-", str(inner.get("id", "receipt")))[:80]
    if "seq" in evidence:
        return f"entry-{_NOT_A_NAME.sub('-', str(evidence['seq']))[:20]}"
    return _NOT_A_NAME.sub("-", check.name)


def _finding(report: Report, target: AuditTarget, check: CheckResult) -> bytes:
    value = {
        "format": FORMAT,
        "node": target.node,
        "origin": target.origin,
        "chain": target.chain_id,
        "anchor": target.anchor,
        "registry": target.registry,
        "size": report.size,
        "root": report.root,
        "source": report.source,
        "check": check.number,
        "name": check.name,
        "detail": check.detail,
        "evidence": dict(check.evidence),
    }
    return json.dumps(value, indent=2).encode() + b"\n"
