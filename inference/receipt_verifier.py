"""Seven steps that a receipt, or a note of the log, goes through on the way to being believed.

1. signature: the node signed exactly this receipt
2. bytes: it is about the very request and response
3. charge: quote and charge follow from price, usage and plan
4. inclusion: the entry stands at its place in the log whose head the checkpoint is
5. checkpoint: the node signed that head
6. anchored: a head that holds the entry was written on chain
7. model: its record was active and attested at the receipt's block, and not revoked before

Steps 1 to 5 need no network. Steps 6 and 7 ask the chain where one is given. Without it, what the
proof says of the chain is compared with the rest of the proof, and counts as not run: it is the
word of whoever saved it. A step that fails carries its evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from inference.audit import checkpoint as notes
from inference.audit.chain_view import AuditTarget, ChainView
from inference.audit.checkpoint import Checkpoint, CheckpointError, checkpoint_domain
from inference.audit.entry import Entry
from inference.audit.merkle import ProofError, verify_inclusion
from inference.audit.model_standing import Terms, check_standing
from inference.audit.report import CheckResult
from inference.errors import AuditError
from inference.proof import AnchoredFacts, Proof
from inference.receipts import (
    SignedReceipt,
    check_bytes,
    check_charge,
    check_signature,
    receipt_domain,
)
from inference.statements import SERVED
from registry.record import record_id

FORMAT: Final = "weightproof/receipt-report@1"


class _NotRunError(Exception):
    """A step has nothing to work on; its text says why."""


@dataclass(frozen=True)
class Question:
    """What is to be verified, and against what.

    `signed` is None for a note, `proof` None for a bare receipt. `node` is who should have signed;
    `chain_id` and `anchor` say where its log is anchored. Without `chain` nothing is asked of one;
    `registry` is then not known, and empty.
    """

    entry: Entry
    signed: SignedReceipt | None
    node: str
    chain_id: int
    anchor: str
    proof: Proof | None = None
    request: bytes | None = None
    response: bytes | None = None
    chain: ChainView | None = None
    registry: str = ""
    terms: Terms = field(default_factory=Terms)

    def receipt(self) -> SignedReceipt:
        """Return the receipt. Raises for a note, which has no steps of its own."""
        if self.signed is None:
            raise _NotRunError(f"the entry is a {self.entry.kind}, which the checkpoint speaks for")
        return self.signed

    def proven(self) -> Proof:
        """Return the proof. Raises where there is none."""
        if self.proof is None:
            raise _NotRunError("a bare receipt: save a proof with `weightproof receipt prove`")
        return self.proof

    def evidence(self, **more: object) -> dict[str, object]:
        """Return what proves a finding about the log."""
        kept: dict[str, object] = {"entry": self.entry.to_json()}
        if self.proof is not None:
            kept["checkpoint"] = self.proof.checkpoint
        return kept | more


@dataclass(frozen=True)
class Verdict:
    """How the steps ended."""

    entry: Entry
    node: str
    steps: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """Whether all steps that ran are good, and one by which the node is bound did run."""
        bound = self.steps[0].ran or self.steps[4].ran
        return bound and not self.failed

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The steps that found something wrong, in order."""
        return tuple(step for step in self.steps if step.ran and not step.ok)

    def to_json(self) -> Mapping[str, object]:
        """Return the verdict as a JSON object."""
        return {
            "format": FORMAT,
            "kind": self.entry.kind,
            "seq": self.entry.seq,
            "node": self.node,
            "ok": self.ok,
            "checks": [step.to_json() for step in self.steps],
        }


def verify(question: Question) -> Verdict:
    """Take the seven steps in order. Raises `ChainError` where the chain does not answer."""
    steps = tuple(_run(question, number, *step) for number, step in enumerate(_STEPS, start=1))
    return Verdict(question.entry, question.node, steps)


def _run(
    question: Question, number: int, name: str, step: Callable[[Question], str]
) -> CheckResult:
    try:
        return CheckResult(number, name, True, step(question))
    except _NotRunError as reason:
        return CheckResult(number, name, False, str(reason), ran=False)
    except AuditError as finding:
        return CheckResult.of(number, name, finding)


def _check_signature(question: Question) -> str:
    signed = question.receipt()
    domain = receipt_domain(question.chain_id, question.anchor)
    check_signature(signed, node=question.node, domain=domain)
    return f"{question.node} signed receipt {signed.receipt.id}"


def _check_bytes(question: Question) -> str:
    signed = question.receipt()
    shown = {"request": question.request, "response": question.response}
    names = [name for name, data in shown.items() if data is not None]
    if not names:
        raise _NotRunError("neither request nor response was shown")
    check_bytes(signed, request=question.request, response=question.response)
    return f"about the very {' and '.join(names)}"


def _check_charge(question: Question) -> str:
    signed = question.receipt()
    check_charge(signed)
    payment, tokens = signed.receipt.payment, signed.receipt.tokens
    return (
        f"{signed.receipt.status}: {tokens.input} + {tokens.output} tokens, "
        f"{payment.charged} charged, {payment.quote} quoted"
    )


def _check_inclusion(question: Question) -> str:
    proof = question.proven()
    head = _head(question)
    if proof.inclusion.size != head.size:
        text = f"a path in a log of {proof.inclusion.size}, the checkpoint is of {head.size}"
        raise AuditError(4, text, evidence=question.evidence())
    _check_path(question, head.size, head.root, proof.inclusion.path)
    return f"entry {question.entry.seq} of {head.size} in the log {head.origin}"


def _check_path(question: Question, size: int, root: bytes, path: tuple[bytes, ...]) -> None:
    try:
        verify_inclusion(question.entry.leaf(), question.entry.seq, size, path, root)
    except ProofError as error:
        shown = ["0x" + item.hex() for item in path]
        raise AuditError(4, error.message, evidence=question.evidence(proof=shown)) from error


def _head(question: Question) -> Checkpoint:
    try:
        return notes.parse(question.proven().checkpoint)[0]
    except CheckpointError as error:
        raise AuditError(5, error.message, evidence=question.evidence()) from error


def _check_checkpoint(question: Question) -> str:
    proof = question.proven()
    domain = checkpoint_domain(question.chain_id, question.anchor)
    try:
        signed = notes.verify(proof.checkpoint, question.node, domain)
    except CheckpointError as error:
        raise AuditError(5, error.message, evidence=question.evidence()) from error
    return f"{question.node} signed the head of {signed.checkpoint.size} entries"


def _check_anchored(question: Question) -> str:
    proof, head = question.proven(), _head(question)
    facts = proof.anchored
    if facts is not None:
        _check_path(question, facts.size, facts.root, facts.path)
        if facts.size == head.size and facts.root != head.root:
            text = f"two heads of {head.size} entries: one signed, another anchored"
            raise AuditError(6, text, evidence=question.evidence(anchored=facts.to_json()))
    if question.chain is None:
        if facts is None:
            raise _NotRunError("the proof was saved before a head that holds it was anchored")
        raise _NotRunError(f"saved as anchored in block {facts.block}; no chain was asked")
    heads = question.chain.anchored(question.node, head.origin)
    wanted = {(head.size, head.root)} | ({(facts.size, facts.root)} if facts else set())
    for event in heads:
        if (event.size, event.root) in wanted:
            return f"the head of {event.size} entries stands on chain since block {event.block}"
    if facts is None:
        raise _NotRunError("no head that holds it is anchored yet, as far as the proof can show")
    raise _never_anchored(question, facts)


def _never_anchored(question: Question, facts: AnchoredFacts) -> AuditError:
    text = f"the head of {facts.size} entries that the proof names was never anchored"
    return AuditError(6, text, evidence=question.evidence(anchored=facts.to_json()))


def _check_model(question: Question) -> str:
    signed = question.receipt()
    model = signed.receipt.model
    if signed.receipt.status not in SERVED:
        raise _NotRunError(f"the call was {signed.receipt.status}: nothing was sold")
    facts = question.proof.record if question.proof else None
    if facts is not None and record_id(facts.publisher, model.manifest_digest) != model.model_id:
        text = f"publisher {facts.publisher} and the manifest digest make another ModelId"
        raise AuditError(7, text, evidence={"receipt": signed.public(), "record": facts.to_json()})
    if question.chain is None:
        saved = f"saved as vouched for by {len(facts.attesters)}; " if facts else ""
        raise _NotRunError(f"{saved}no chain was asked")
    target = AuditTarget(question.node, "", question.chain_id, question.anchor, question.registry)
    check_standing([signed], target, question.chain, question.terms)
    return f"0x{model.model_id.hex()} was active and attested at block {model.block.number}"


_STEPS: Final[tuple[tuple[str, Callable[[Question], str]], ...]] = (
    ("signature", _check_signature),
    ("bytes", _check_bytes),
    ("charge", _check_charge),
    ("inclusion", _check_inclusion),
    ("checkpoint signature", _check_checkpoint),
    ("anchored", _check_anchored),
    ("model record", _check_model),
)
