"""Which witnesses an auditor trusts, and how many of them must have cosigned a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from inference.audit.checkpoint import SignedCheckpoint
from inference.audit.note import NoteError, VerifierKey
from inference.errors import AuditError

_CHECK = 1


@dataclass(frozen=True)
class Quorum:
    """At least `least` of the witnesses; nobody by default."""

    witnesses: Sequence[VerifierKey] = field(default_factory=tuple)
    least: int = 0

    def check(self, signed: SignedCheckpoint) -> str:
        """Count who cosigned a head, and say so. Raises `AuditError` (1) when they are too few."""
        missing = []
        for key in self.witnesses:
            try:
                signed.bears(key)
            except NoteError as error:
                missing.append(error.message)
        found = len(self.witnesses) - len(missing)
        if found < self.least:
            text = f"{found} witnesses cosigned the head, {self.least} were wanted: {missing[0]}"
            evidence = {"checkpoint": signed.note, "witnesses": [k.text for k in self.witnesses]}
            raise AuditError(_CHECK, text, evidence=evidence)
        return f"; {found} of {len(self.witnesses)} witnesses cosigned" if self.witnesses else ""
