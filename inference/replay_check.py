"""Check 8 of an audit: which calls are replayed, who discloses them, and what comes of it.

Calls that payers hand in are replayed, and as many more as the auditor wants: the beacon chooses
them among those that made tokens, and whoever may see them is asked for them. A node that refuses
has signed that it did; it accuses nobody, and is told of. One finding does not end the check: how
many of the calls were lies says more than that one was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from inference.audit.beacon import Window, chosen
from inference.audit.disclosure import Refusal
from inference.audit.replay import CHECK, Disclosure, Replay, Replayer, replay
from inference.errors import AuditError
from inference.receipt_format import OK, PARTIAL
from inference.receipts import SignedReceipt
from registry.errors import WeightproofError

# Returns what is shown of a call. Raises `WeightproofError` where nobody shows it.
Ask: TypeAlias = Callable[[SignedReceipt], Disclosure | Refusal]
# Findings whose evidence is kept: each holds a request, which can have megabytes. All are counted.
MAX_FINDINGS: Final = 20
# Calls to replay, by receipt id.
Shown: TypeAlias = dict[str, tuple[SignedReceipt, Disclosure]]


@dataclass(frozen=True)
class Drawn:
    """How many calls the beacon is to choose, and who is asked to disclose them."""

    number: int = 0
    ask: Ask | None = None


@dataclass
class Findings:
    """What was found so far, each with its evidence; `count` is of all, `kept` the first."""

    count: int = 0
    kept: list[AuditError] = field(default_factory=list)

    def add(self, finding: AuditError) -> None:
        """Take one."""
        self.count += 1
        if len(self.kept) < MAX_FINDINGS:
            self.kept.append(finding)

    def check(self, told: str) -> None:
        """Raise the first with all that were kept, and `told` of the rest; nothing if none is."""
        if not self.kept:
            return
        first, *more = self.kept
        parts = [first.detail]
        parts += [f"{self.count} findings in all"] if more else []
        parts += [f"evidence of {MAX_FINDINGS} is kept"] if self.count > MAX_FINDINGS else []
        text = "; ".join([*parts, told] if told else parts)
        raise AuditError(CHECK, text, evidence=first.evidence, more=more)


@dataclass(frozen=True)
class Calls:
    """A log's receipts by index, and the note of the checkpoint that they stand under."""

    receipts: Mapping[int, SignedReceipt]
    note: str

    def shown(self, disclosures: Mapping[str, Disclosure], found: Findings) -> Shown:
        """Return what payers show of calls that are in the log."""
        calls = {signed.receipt.id: signed for signed in self.receipts.values()}
        for name in sorted(disclosures.keys() - calls.keys()):
            evidence = {"ids": [name], "checkpoint": self.note}
            found.add(AuditError(CHECK, f"no receipt {name} is in the log", evidence=evidence))
        return {name: (calls[name], one) for name, one in disclosures.items() if name in calls}

    def draw(
        self, drawn: Drawn, known: Sequence[Window], shown: Shown, findings: Findings
    ) -> list[str]:
        """Ask for the calls that the beacon chooses, and add them to `shown`.

        Returns what is to be told of those that nobody showed.
        """
        eligible = [seq for seq, signed in self.receipts.items() if _makes_tokens(signed)]
        found = chosen(known, eligible, drawn.number)
        notes = [] if found else ["no anchored checkpoint covers a call: the beacon chose none"]
        for signed in (self.receipts[seq] for seq in found):
            name = signed.receipt.id
            if drawn.ask is None or name in shown:
                continue
            try:
                answer = drawn.ask(signed)
            except AuditError as finding:
                findings.add(finding)
                continue
            except WeightproofError as error:  # who is not told decides nothing
                notes.append(f"receipt {name} was chosen and not disclosed: {error.message}")
                continue
            if isinstance(answer, Refusal):
                notes.append(f"receipt {name} was chosen and refused, as is logged: {answer.why}")
            else:
                shown[name] = (signed, answer)
        return notes


def check_replays(
    calls: Calls,
    disclosures: Mapping[str, Disclosure],
    drawn: Drawn,
    known: Callable[[], Sequence[Window]],
    replayer: Replayer,
) -> tuple[bool, str]:
    """Replay all calls; return whether any was decided, and what is told of them.

    Raises `AuditError` (8) with every call whose answer is not its model's, `MAX_FINDINGS` at most.
    """
    findings = Findings()
    shown = calls.shown(disclosures, findings)
    notes = calls.draw(drawn, known(), shown, findings) if drawn.number else []
    ran, told = _replay_all(shown, replayer, notes, findings)
    findings.check(told)
    return ran, told


def _replay_all(
    shown: Shown, replayer: Replayer, notes: Sequence[str], findings: Findings
) -> tuple[bool, str]:
    found = []
    for signed, one in shown.values():
        try:
            found.append(_replay(signed, one, replayer))
        except AuditError as finding:
            findings.add(finding)
    same = sum(each.same and not each.weighed for each in found)
    weighed = sum(each.same and each.weighed for each in found)
    told = [f"{same} calls gave the same tokens again"] if same else []
    told += [f"{weighed} calls passed the margin test"] if weighed else []
    undecided = [each.detail for each in found if not each.same]
    return bool(same + weighed), "; ".join([*told, *undecided, *notes])


def _makes_tokens(signed: SignedReceipt) -> bool:
    receipt = signed.receipt
    return receipt.status in (OK, PARTIAL) and receipt.tokens.output > 0


def _replay(signed: SignedReceipt, disclosure: Disclosure, replayer: Replayer) -> Replay:
    try:
        return replay(signed, disclosure, replayer)
    except AuditError:
        raise
    except WeightproofError as error:  # what cannot be run here decides nothing
        return Replay(False, f"receipt {signed.receipt.id} cannot be replayed: {error.message}")
