"""Story d, second half: anybody audits a node from outside, read-only.

1. the checkpoint is signed by the node
2. it extends every checkpoint anchored before, and those known; public tools read the same head
3. its root follows from the entries, each entry has its form, and anchors it tells of are on chain
4. each receipt is signed, and stands where and when it says
5. each charge follows from price and tokens; per channel the sum of charges = the ledger =
   totalClaimed on chain + unclaimed; each exact payment and each settlement was transferred
6. each model and what it descends from was active and attested at a fresh block, and not sold
   after it was revoked
7. the receipts handed in are included
8. calls that payers disclose, and those that the beacon chose, are their models' answers

A check that fails carries its evidence. A node or a chain that does not answer is no finding:
that is raised, as `UnavailableError` or `ChainError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from inference.audit.accounts import Accounts
from inference.audit.anchor import AnchorEvent
from inference.audit.anchored_windows import beacon_of
from inference.audit.audit_state import AuditState
from inference.audit.chain_view import AuditTarget, ChainView
from inference.audit.checkpoint import CheckpointError, SignedCheckpoint, checkpoint_domain, verify
from inference.audit.clock import AnchorTime, Clock
from inference.audit.crew import examined
from inference.audit.examination import Examiner
from inference.audit.extension import check_anchored, check_known
from inference.audit.inclusion import check_included
from inference.audit.log_copy import LogCopy, Progress
from inference.audit.note_line import check_note_line
from inference.audit.plan_accounts import PlanAccounts
from inference.audit.reader import BadAnswerError, LogReader
from inference.audit.reconciliation import check_exact, reconcile_channels
from inference.audit.report import ChannelMoney, CheckResult, Figures, Report
from inference.audit.tally import Tally
from inference.audit_memory import AuditMemory
from inference.errors import AuditError
from inference.questions import Questions as Questions
from inference.receipts import receipt_domain
from inference.replay_check import Calls, check_replays


class _NotRunError(Exception):
    """A check has nothing to work on; its text says why."""


@dataclass
class _Audit:
    """One audit under way: what it was given, and what its checks have found true so far."""

    target: AuditTarget
    log: LogReader
    chain: ChainView
    asked: Questions
    progress: Progress
    copy: LogCopy
    memory: AuditMemory | None = None
    before: AuditState | None = None
    signed: SignedCheckpoint | None = None
    anchored: Sequence[AnchorEvent] = ()
    tally: Tally | None = None
    channels: Sequence[ChannelMoney] = ()

    @property
    def head(self) -> SignedCheckpoint:
        """The checkpoint that check 1 accepted, on which all others rest."""
        if self.signed is None:
            raise _NotRunError("there is no checkpoint to rest on")
        return self.signed

    @property
    def read(self) -> Tally:
        """The sums over the log that check 3 read to its end."""
        if self.tally is None:
            raise _NotRunError("the log could not be read to its end")
        return self.tally

    @property
    def sums(self) -> Tally:
        """The sums over a log whose receipts check 4 could read."""
        if self.read.unread is not None:
            raise _NotRunError("the log's receipts could not be read")
        return self.read

    def figures(self) -> Figures:
        """Return what was counted, as far as it was."""
        if self.tally is None:
            return Figures(anchors=len(self.anchored))
        accounts = self.tally.accounts
        return Figures(
            entries=self.tally.frontier.size - self.copy.start,
            before=self.copy.start,
            receipts=self.tally.calls,
            charged=accounts.charged,
            claimed=sum(one.claimed for one in self.channels),
            unclaimed=sum(one.unclaimed for one in self.channels),
            channels=len(accounts.channels),
            exact=len(accounts.exact),
            models=len(self.tally.standing.models),
            anchors=len(self.anchored),
        )

    def advance(self, tally: Tally, end: int) -> None:
        """Read on up to entry `end`."""
        start = tally.frontier.size
        examiner, entries = Examiner(self.target), self.log.entries(start, end)
        pages = examined(examiner, entries, start, end, processes=self.asked.processes)
        with closing(pages):
            for page, rows in pages:
                tally.take(page, rows)
                if tally.form is not None:
                    raise tally.form.error()
                self.progress(tally.frontier.size, end)


def audit(
    target: AuditTarget,
    log: LogReader,
    chain: ChainView,
    asked: Questions | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Run the eight checks in order and report; `progress` hears how far the log is read."""
    asked = asked or Questions()
    # A call to be replayed may stand anywhere: then the whole log is read.
    replays = asked.disclosures or asked.drawn.number
    memory = None if replays else asked.memory
    before = memory.recall(target) if memory else None
    with closing(LogCopy(log, before.size if before else 0)) as copy:
        state = _Audit(target, log, chain, asked, progress, copy, memory, before)
        results = tuple(_run(state, number, *step) for number, step in enumerate(_CHECKS, start=1))
        figures = state.figures()
    if memory and all(check.ok for check in results if check.ran):
        memory.keep(target)
    head = state.signed.checkpoint if state.signed else None
    return Report(
        node=target.node,
        origin=target.origin,
        size=head.size if head else 0,
        root="0x" + head.root.hex() if head else "",
        checks=results,
        figures=figures,
        channels=state.channels,
    )


def _run(state: _Audit, number: int, name: str, check: Callable[[_Audit], str]) -> CheckResult:
    try:
        if number > 1:
            _ = state.head
        return CheckResult(number, name, True, check(state))
    except _NotRunError as reason:
        return CheckResult(number, name, False, str(reason), ran=False)
    except AuditError as finding:
        return CheckResult.of(number, name, finding)
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
    target, head = state.target, state.head
    state.anchored = state.chain.anchored(target.node, target.origin)
    domain = checkpoint_domain(target.chain_id, target.anchor)
    told = _check_names(state)
    if state.before is not None:
        check_known(head, [state.before.checkpoint], domain, state.log)
        told += f", and the {state.before.size} entries audited before"
    compared = state.before.compared(state.anchored) if state.before else 0
    check_anchored(head, state.anchored[compared:], state.log)
    known, foreign = check_known(head, state.asked.known, domain, state.log)
    told += foreign + check_note_line(head, domain, state.log)
    return f"extends {len(state.anchored)} anchored checkpoints, {known} known ones compared{told}"


def _check_names(state: _Audit) -> str:
    """Refuse a node that says by itself which of its logs is the log."""
    target = state.target
    others = [name for name in state.chain.origins(target.node) if name != target.origin]
    if others and not state.asked.told_origin:
        text = f"the node shows log {target.origin!r:.80}, and anchored {others[0]!r:.80} too"
        evidence = {"checkpoint": state.head.note, "origins": others}
        raise AuditError(2, text, evidence=evidence)
    return f"; {len(others)} logs of other names were anchored" if others else ""


def _check_entries(state: _Audit) -> str:
    head = state.head.checkpoint
    tally = _tally(state)
    state.advance(tally, head.size)
    state.tally = tally
    found = tally.frontier.root()
    if found != head.root:
        leaves = _hex(tally.first_leaves)
        evidence = {"checkpoint": state.head.note, "leaves": leaves}
        if state.before is not None:
            evidence |= {"before": state.before.checkpoint, "edge": _hex(state.before.edge)}
        text = f"the {head.size} entries have root {found.hex()}, not the signed {head.root.hex()}"
        raise AuditError(3, text, evidence=evidence)
    tally.told.check_anchors(state.anchored)
    if state.memory is not None:
        state.memory.note(state.target, state.head.note, state.anchored, tally)
    told = f", {head.size - state.copy.start} of them new" if state.before else ""
    return f"{head.size} entries give the signed root{told}"


def _tally(state: _Audit) -> Tally:
    """Return sums of nothing, that know when checkpoints were anchored."""
    copy = state.copy
    plans = PlanAccounts(state.log.price_offer, copy.recall)
    accounts = Accounts(state.target.network, plans, copy.recall)
    # The last anchor below the first entry bounds it too.
    past = max(sum(anchor.size <= copy.start for anchor in state.anchored) - 1, 0)
    times = [
        AnchorTime(anchor.size, state.chain.block_at(anchor.block).timestamp)
        for anchor in state.anchored[past:]
    ]
    tally = Tally(copy, accounts, Clock(state.asked.terms, copy.recall, times))
    if state.before is not None:
        state.before.restore(tally)
    return tally


def _check_receipts(state: _Audit) -> str:
    tally = state.read
    if finding := tally.unread or tally.receipt:
        raise finding.error()
    return f"{tally.calls} receipts are signed and stand where and when they say"


def _check_money(state: _Audit) -> str:
    tally = state.sums
    if tally.charge is not None:
        raise tally.charge.error()
    charged, accounts = tally.accounts.charged, tally.accounts
    exact = [seq for seq in accounts.exact.values() if seq >= tally.copy.start]
    for seq in exact:
        check_exact(tally.copy.bare(seq), seq, tally.copy.recall, state.chain)

    tally.told.check_settlements(state.chain)

    def advance(end: int) -> None:
        known = tally.findings()
        state.advance(tally, end)
        if found := [finding for finding in tally.findings() if finding not in known]:
            raise found[0].error()

    state.channels = reconcile_channels(tally, advance, state.chain, state.log)
    unclaimed = sum(one.unclaimed for one in state.channels)
    return (
        f"{charged} charged; {len(accounts.channels)} channels agree with ledger and chain, "
        f"{unclaimed} unclaimed; {len(exact)} exact payments were transferred"
    )


def _check_models(state: _Audit) -> str:
    tally, asked = state.sums, state.asked
    count = tally.standing.check(state.target, state.chain, asked.terms, tally.copy.recall)
    return f"{count} models were active and attested when they were sold"


def _check_inclusion(state: _Audit) -> str:
    copy = state.read.copy
    if not state.asked.given:
        raise _NotRunError("no receipt was handed in")
    domain = receipt_domain(state.target.chain_id, state.target.anchor)
    for signed in state.asked.given:
        check_included(signed, state.head, copy, state.log, domain)
    return f"{len(state.asked.given)} receipts handed in are in the log"


def _check_replay(state: _Audit) -> str:
    asked, target = state.asked, state.target
    if asked.replayer is None or not (asked.disclosures or asked.drawn.number):
        raise _NotRunError("no call was disclosed for replay")
    ran, detail = check_replays(
        Calls(state.sums.copy.receipts, state.head.note),
        asked.disclosures,
        asked.drawn,
        lambda: beacon_of(state.anchored, target.origin, state.chain),
        asked.replayer,
    )
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
