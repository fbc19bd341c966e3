"""Check 2: a head extends every head that the node signed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inference.audit import merkle
from inference.audit.anchor import AnchorEvent
from inference.audit.checkpoint import CheckpointError, SignedCheckpoint, verify
from inference.audit.merkle import ProofError
from inference.audit.reader import BadAnswerError, LogReader
from inference.errors import AuditError
from registry.signing.typed_data import Domain

CHECK: Final = 2


def check_anchored(head: SignedCheckpoint, anchored: Sequence[AnchorEvent], log: LogReader) -> None:
    """Refuse, with `AuditError` (2), a head that does not extend each anchored one."""
    for anchor in anchored:
        check_extends(head, anchor.size, anchor.root, {"anchored": anchor.to_json()}, log)


def check_known(
    head: SignedCheckpoint, notes: Sequence[str], domain: Domain, log: LogReader
) -> tuple[int, str]:
    """Refuse, with `AuditError` (2), a head that does not extend each note's.

    Returns how many were compared, and what is to be said of those that were not.
    """
    known, foreign = 0, ""
    for note in notes:
        try:
            earlier = verify(note, head.node, domain, origin=head.checkpoint.origin).checkpoint
        except CheckpointError as error:
            # Whoever wrote it, it was not this node: it can neither accuse nor excuse it.
            foreign = f"; one known checkpoint was left out: {error.message}"
            continue
        check_extends(head, earlier.size, earlier.root, {"known": note}, log)
        known += 1
    return known, foreign


def check_extends(
    signed: SignedCheckpoint, size: int, root: bytes, earlier: dict[str, object], log: LogReader
) -> None:
    """Refuse, with `AuditError` (2), a head that does not extend the tree (`size`, `root`).

    `earlier` is the evidence of that tree.
    """
    head = signed.checkpoint
    evidence = earlier | {"checkpoint": signed.note}
    if size > head.size:
        text = f"the log shrank: {size} entries were signed before, now {head.size}"
        raise AuditError(CHECK, text, evidence=evidence)
    proof: tuple[bytes, ...] = ()
    if 0 < size < head.size:
        try:
            proof = log.consistency_proof(size, head.size)
        except BadAnswerError as answer:
            raise AuditError(CHECK, answer.message, evidence=evidence | answer.evidence) from answer
    try:
        merkle.verify_consistency(size, head.size, root, head.root, proof)
    except ProofError as error:
        evidence["proof"] = ["0x" + item.hex() for item in proof]
        text = f"the log of {head.size} does not begin with that of {size}: {error.message}"
        raise AuditError(CHECK, text, evidence=evidence) from error
