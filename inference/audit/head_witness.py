"""A witness of other nodes' heads: it cosigns what extends what it has cosigned before.

(The witness in `inference/witness.py` testifies to tensors in memory; this one to heads of logs.)

1. the submission has its form, and its log is one the witness watches
2. the log signed the checkpoint
3. it is not smaller than the head the proof begins at, which is the last one cosigned
4. of the same size it has the same root; a larger one extends it by the proof
5. the head is on the disk
6. the witness signs when it saw it

So of one log it never cosigns two heads that do not extend each other, whoever asks, however often
it is stopped in between. Source: C2SP tlog-witness, tlog-cosignature.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from inference.audit import merkle
from inference.audit.checkpoint import Checkpoint, CheckpointError, parse
from inference.audit.merkle import EMPTY_ROOT, ProofError
from inference.audit.note import NoteError, NoteKey, VerifierKey
from inference.audit.submission import Submission, SubmissionError
from inference.errors import NodeError


class LogUnknownError(NodeError):
    """The witness watches no log of this origin."""

    status = 404
    code = "log_unknown"


class HeadUnsignedError(NodeError):
    """No key of the log signed the checkpoint."""

    status = 403
    code = "head_unsigned"


class HeadConflictError(NodeError):
    """The proof begins at another head than the last one cosigned, whose `size` is told."""

    status = 409
    code = "head_conflict"

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class HeadUnprovenError(NodeError):
    """The proof does not prove that the head extends the last one cosigned."""

    status = 422
    code = "head_unproven"


class SeenHead(Protocol):
    """The last head cosigned of one log, while nobody else may change it."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The head; None before the first."""

    def keep(self, note: str) -> None:
        """Put a later head in its place, on the disk before this returns."""

    def accuse(self, note: str) -> None:
        """Keep a note that the log signed and that contradicts the head."""


class HeadBook(Protocol):
    """Where a witness remembers."""

    def opened(self, origin: str) -> AbstractContextManager[SeenHead]:
        """Hold the head of one log: one caller at a time, of all threads and processes."""


@dataclass(frozen=True)
class HeadWitness:
    """Watches the logs whose keys it is given. `clock` gives unix seconds."""

    key: NoteKey
    logs: Sequence[VerifierKey]
    book: HeadBook
    clock: Callable[[], float] = time.time

    def add_checkpoint(self, body: bytes) -> str:
        """Judge a submission; return the line that cosigns its checkpoint.

        Raises `SubmissionError`, `LogUnknownError`, `HeadUnsignedError`, `HeadConflictError`,
        `HeadUnprovenError`.
        """
        asked = Submission.parse(body)  # 1
        head = self._signed(asked.note)  # 1, 2
        if asked.old > head.size:
            raise SubmissionError(f"a head of {head.size} cannot extend one of {asked.old}")  # 3
        with self.book.opened(head.origin) as seen:
            before = seen.checkpoint or Checkpoint(head.origin, 0, EMPTY_ROOT)
            if asked.old != before.size:
                text = f"the last head cosigned is of size {before.size}, not {asked.old}"
                raise HeadConflictError(text, before.size)  # 3
            _check_extends(before, head, asked, seen)  # 4
            seen.keep(asked.note)  # 5
        return self.key.cosignature(head.text(), int(self.clock()))  # 6

    def _signed(self, note: str) -> Checkpoint:
        try:
            head, lines = parse(note)
        except CheckpointError as error:
            raise SubmissionError(error.message) from error
        keys = [key for key in self.logs if key.name == head.origin]
        if not keys:
            raise LogUnknownError(f"no log {head.origin!r:.80} is watched here")
        for key in keys:
            try:
                key.verify(head.text(), lines)
                return head
            except NoteError as error:
                reason = error
        raise HeadUnsignedError(reason.message) from reason


def _check_extends(before: Checkpoint, head: Checkpoint, asked: Submission, seen: SeenHead) -> None:
    if head.size == before.size and head.root != before.root:
        if seen.checkpoint is not None:
            seen.accuse(asked.note)
        raise HeadConflictError(f"two roots of size {head.size}: the log forked", before.size)
    try:
        merkle.verify_consistency(before.size, head.size, before.root, head.root, asked.proof)
    except ProofError as error:
        raise HeadUnprovenError(error.message) from error
