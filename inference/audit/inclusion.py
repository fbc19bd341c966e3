"""Check 7: a receipt that a payer hands in is in the log."""

from __future__ import annotations

from typing import Final

from inference.audit import merkle
from inference.audit.checkpoint import SignedCheckpoint
from inference.audit.log_copy import LogCopy
from inference.audit.merkle import ProofError
from inference.audit.reader import LogReader
from inference.errors import AuditError
from inference.receipts import SignedReceipt, check_signature
from registry.signing.typed_data import Domain

CHECK: Final = 7


def check_included(
    signed: SignedReceipt, head: SignedCheckpoint, copy: LogCopy, log: LogReader, domain: Domain
) -> None:
    """Refuse, with `AuditError`, a receipt that is not in the log under `head`.

    Also one that the node never signed: then it is not held against the log.
    """
    check_signature(signed, node=head.node, domain=domain)
    seq, tree = signed.receipt.seq, head.checkpoint
    evidence: dict[str, object] = {"receipt": signed.public(), "checkpoint": head.note}
    if copy.start <= seq < len(copy):
        entry = copy.entry(seq)
        evidence |= {"entry": entry.body, "kind": entry.kind}
    try:
        proof = log.inclusion_proof(seq, tree.size) if seq < tree.size else ()
        evidence["proof"] = ["0x" + item.hex() for item in proof]
        merkle.verify_inclusion(signed.entry().leaf(), seq, tree.size, proof, tree.root)
    except ProofError as error:
        text = f"receipt {signed.receipt.id} is not in the log: {error.message}"
        raise AuditError(CHECK, text, evidence=evidence) from error
