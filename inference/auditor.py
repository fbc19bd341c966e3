"""Story d, second half: anybody audits a node from outside, read-only.

1. the checkpoint is signed by the node
2. it extends every checkpoint anchored before, and those the auditor knows
3. its root follows from the entries, and each entry has its form
4. each receipt is signed, and stands where it says
5. each charge follows from price and tokens; per channel the sum of charges = the ledger =
   totalClaimed on chain + unclaimed; each exact payment was transferred
6. each model was active and attested at its block, and not sold after it was revoked
7. the receipts handed in are included
8. calls that payers disclose, and those that the beacon chose, are their models' answers

A check that fails carries its evidence. A node or a chain that does not answer is no finding:
that is raised, as `UnavailableError` or `ChainError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.audit import merkle
from inference.audit.anchored_windows import beacon_of
from inference.audit.chain_view import AuditTarget, ChainView
from inference.audit.checkpoint import CheckpointError, SignedCheckpoint, checkpoint_domain, verify
from inference.audit.log_copy import LogCopy, Progress
from inference.audit.merkle import ProofError
from inference.audit.model_standing import Terms, check_standing
from inference.audit.quorum import Quorum
from inference.audit.reader import BadAnswerError, LogReader
from inference.audit.reconciliation import Books, check_exact, reconcile_channels
from inference.audit.replay import Disclosure, Replayer
from inference.audit.report import CheckResult, Report
from inference.errors import AuditError
from inference.receipts import SignedReceipt, check_signature, receipt_domain
from inference.replay_check import Calls, Drawn, replay_all

# Leaf hashes in one piece of evidence: a longer log is downloaded again by whoever doubts it.
_MAX_EVIDENCE_LEAVES: Final = 10_000


class _NotRunError(Exception):
    """A check has nothing to work on; its text says why."""


@dataclass(frozen=True)
class Questions:
    """What an audit is asked beside the log itself.

    `given` are payers' receipts, `known` checkpoint notes seen earlier, `disclosures` what payers
    show of their calls, by receipt id, for `replayer` to run again, `drawn` what is asked of calls
    that the beacon chooses. `quorum` is of the witnesses that must have cosigned the head.
    """

    terms: Terms = field(default_factory=Terms)
    given: Sequence[SignedReceipt] = ()
    known: Sequence[str] = ()
    disclosures: Mapping[str, Disclosure] = field(default_factory=dict)
    replayer: Replayer | None = None
    quorum: Quorum = field(default_factory=Quorum)
    drawn: Drawn = field(default_factory=Drawn)


@dataclass
class _Audit:
    """One audit under way: what it was given, and what its checks have found true so far."""

    target: AuditTarget
    log: LogReader
    chain: ChainView
    asked: Questions
    progress: Progress
    signed: SignedCheckpoint | None = None
    copy: LogCopy = field(default_factory=LogCopy)
    has_entries: bool = False
    has_receipts: bool = False

    @property
    def head(self) -> SignedCheckpoint:
        """The checkpoint that check 1 accepted, on which all others rest."""
        if self.signed is None:
            raise _NotRunError("there is no checkpoint to rest on")
        return self.signed

    @property
    def receipts(self) -> Mapping[int, SignedReceipt]:
        """The receipts that check 4 could read."""
        if not self.has_receipts:
            raise _NotRunError("the log's receipts could not be read")
        return self.copy.receipts


def audit(
    target: AuditTarget,
    log: LogReader,
    chain: ChainView,
    asked: Questions | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Run the eight checks in order and report; `progress` hears how far the log is read."""
    state = _Audit(target, log, chain, asked or Questions(), progress)
    results = tuple(_run(state, number, *step) for number, step in enumerate(_CHECKS, start=1))
    head = state.signed.checkpoint if state.signed else None
    return Report(
        node=target.node,
        origin=target.origin,
        size=head.size if head else 0,
        root="0x" + head.root.hex() if head else "",
        checks=results,
    )


def _run(state: _Audit, number: int, name: str, check: Callable[[_Audit], str]) -> CheckResult:
    try:
        if number > 1:
            _ = state.head
        return CheckResult(number, name, True, check(state))
    except _NotRunError as reason:
        return CheckResult(number, name, False, str(reason), ran=False)
    except AuditError as finding:
        detail = finding.message.removeprefix(f"check {finding.check}: ")
        return CheckResult(number, name, False, detail, finding.evidence)
    except BadAnswerError as answer:
        return CheckResult(number, name, False, answer.message, answer.evidence)


def _check_checkpoint(state: _Audit) -> str:
    note = state.log.note()
    target = state.target
    domain = checkpoint_domain(target.chain_id, target.anchor)
    try:
        state.signed = verify(note, target.node, domain, origin=target.origin)
    except CheckpointError as error:
        raise AuditError(1, error.message, evidence={"checkpoint": note}) from error
    cosigned = state.asked.quorum.check(state.signed)
    return f"{target.node} signed {state.signed.checkpoint.size} entries{cosigned}"


def _check_consistency(state: _Audit) -> str:
    target = state.target
    domain = checkpoint_domain(target.chain_id, target.anchor)
    anchored = state.chain.anchored(target.node, target.origin)
    for anchor in anchored:
        _check_extends(state, anchor.size, anchor.root, {"anchored": anchor.to_json()})
    known, foreign = 0, ""
    for note in state.asked.known:
        try:
            earlier = verify(note, target.node, domain, origin=target.origin).checkpoint
        except CheckpointError as error:
            # Whoever wrote it, it was not this node: it can neither accuse nor excuse it.
            foreign = f"; one known checkpoint was left out: {error.message}"
            continue
        _check_extends(state, earlier.size, earlier.root, {"known": note})
        known += 1
    return f"extends {len(anchored)} anchored checkpoints, {known} known ones compared{foreign}"


def _check_extends(state: _Audit, size: int, root: bytes, earlier: dict[str, object]) -> None:
    head = state.head.checkpoint
    evidence = earlier | {"checkpoint": state.head.note}
    if size > head.size:
        text = f"the log shrank: {size} entries were signed before, now {head.size}"
        raise AuditError(2, text, evidence=evidence)
    proof: tuple[bytes, ...] = ()
    if 0 < size < head.size:
        try:
            proof = state.log.consistency_proof(size, head.size)
        except BadAnswerError as answer:
            raise AuditError(2, answer.message, evidence=evidence | answer.evidence) from answer
    try:
        merkle.verify_consistency(size, head.size, root, head.root, proof)
    except ProofError as error:
        evidence["proof"] = _hex(proof)
        text = f"the log of {head.size} does not begin with that of {size}: {error.message}"
        raise AuditError(2, text, evidence=evidence) from error


def _check_entries(state: _Audit) -> str:
    head = state.head.checkpoint
    state.copy.extend(state.log, head.size, state.progress)
    state.has_entries = True
    found = merkle.root(state.copy.leaves)
    if found != head.root:
        leaves = _hex(state.copy.leaves[:_MAX_EVIDENCE_LEAVES])
        evidence = {"checkpoint": state.head.note, "leaves": leaves}
        text = f"the {head.size} entries have root {found.hex()}, not the signed {head.root.hex()}"
        raise AuditError(3, text, evidence=evidence)
    return f"{head.size} entries give the signed root"


def _check_receipts(state: _Audit) -> str:
    if not state.has_entries:
        raise _NotRunError("the log could not be read to its end")
    state.copy.open_receipts()
    state.has_receipts = True
    ids: dict[str, SignedReceipt] = {}
    for seq, signed in state.copy.receipts.items():
        state.copy.check_receipt(seq, state.target)
        twin = ids.setdefault(signed.receipt.id, signed)
        if twin is not signed:
            evidence = {"receipt": signed.public(), "before": twin.public()}
            raise AuditError(4, f"two receipts have the id {signed.receipt.id}", evidence=evidence)
    return f"{len(ids)} receipts are signed and stand where they say"


def _check_money(state: _Audit) -> str:
    charged = sum(signed.receipt.payment.charged for signed in state.receipts.values())
    books = Books(state.target, state.log, state.copy)
    books.take(len(state.copy.entries))
    exact = list(books.accounts.exact.values())
    for signed in exact:
        check_exact(signed, state.chain)
    unclaimed = reconcile_channels(books, state.chain, state.log)
    return (
        f"{charged} charged; {len(books.accounts.channels)} channels agree with ledger and chain, "
        f"{unclaimed} unclaimed; {len(exact)} exact payments were transferred"
    )


def _check_models(state: _Audit) -> str:
    count = check_standing(state.receipts.values(), state.target, state.chain, state.asked.terms)
    return f"{count} models were active and attested when they were sold"


def _check_inclusion(state: _Audit) -> str:
    head = state.head.checkpoint
    if not state.asked.given:
        raise _NotRunError("no receipt was handed in")
    domain = receipt_domain(state.target.chain_id, state.target.anchor)
    for signed in state.asked.given:
        check_signature(signed, node=state.target.node, domain=domain)
        seq = signed.receipt.seq
        evidence: dict[str, object] = {
            "receipt": signed.public(),
            "checkpoint": state.head.note,
        }
        if seq < len(state.copy.entries):
            evidence["entry"] = state.copy.entries[seq].body
        try:
            proof = state.log.inclusion_proof(seq, head.size) if seq < head.size else ()
            evidence["proof"] = _hex(proof)
            merkle.verify_inclusion(signed.entry().leaf(), seq, head.size, proof, head.root)
        except ProofError as error:
            text = f"receipt {signed.receipt.id} is not in the log: {error.message}"
            raise AuditError(7, text, evidence=evidence) from error
    return f"{len(state.asked.given)} receipts handed in are in the log"


def _check_replay(state: _Audit) -> str:
    asked, target = state.asked, state.target
    if asked.replayer is None or not (asked.disclosures or asked.drawn.number):
        raise _NotRunError("no call was disclosed for replay")
    calls = Calls(state.receipts, state.head.note)
    shown, notes = calls.shown(asked.disclosures), []
    if asked.drawn.number:
        anchored = state.chain.anchored(target.node, target.origin)
        known = beacon_of(anchored, target.origin, state.chain)
        notes = calls.draw(asked.drawn, known, shown)
    ran, detail = replay_all(shown, asked.replayer, notes)
    if not ran:
        raise _NotRunError(detail)
    return detail


def _hex(hashes: Sequence[bytes]) -> list[str]:
    return ["0x" + item.hex() for item in hashes]


_CHECKS: Final[tuple[tuple[str, Callable[[_Audit], str]], ...]] = (
    ("checkpoint signature", _check_checkpoint),
    ("consistency with anchored checkpoints", _check_consistency),
    ("root from entries", _check_entries),
    ("receipt signatures", _check_receipts),
    ("charges and sums", _check_money),
    ("models active and attested", _check_models),
    ("inclusion of given receipts", _check_inclusion),
    ("replay", _check_replay),
)
