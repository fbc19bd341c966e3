"""How a lie was caught: by whom, by which check, after how many calls, with what evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inference.audit.report import Report
from inference.errors import AuditError
from tests.liars.actor import Actor

PAYER = "the payer's client"
AUDITOR = "the auditor"
PROBE = "the payer's probe"
SECOND = "the auditor's second endpoint"
LOADER = "whoever loads the model"


@dataclass(frozen=True)
class Found:
    """What the catcher says. `check` is the number that its report names."""

    by: str
    check: str
    calls: int
    evidence: Mapping[str, Any]
    message: str


def refused(actor: Actor, do: Callable[[], object]) -> Found:
    """Do what the payer's client must refuse, and return why it did."""
    try:
        do()
    except AuditError as error:
        return Found(PAYER, f"check {error.check}", actor.calls, error.evidence, error.message)
    raise AssertionError("the payer's client took it")


def accused(actor: Actor, report: Report) -> Found:
    """Return the first check of the audit that failed."""
    assert report.failed, f"the auditor took it: {report.to_json()}"
    first = report.failed[0]
    return Found(AUDITOR, f"check {first.number}", actor.calls, first.evidence, first.detail)
