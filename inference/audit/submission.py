"""What a log sends to a witness of its heads (C2SP tlog-witness `add-checkpoint`).

A line `old <size>`, the hashes of the consistency proof in base64, an empty line, the note.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inference.audit.merkle import HASH_BYTES
from inference.audit.note import NoteError, decode_base64, encode_base64
from inference.errors import RequestError

# The protocol's own bound.
MAX_PROOF: Final = 63
# A note of 16 signatures by Ed25519, and the proof; those of the node's own notes are below it too.
MAX_BYTES: Final = 32 * 1024
_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,18})", re.ASCII)


class SubmissionError(RequestError):
    """A body that is no submission."""

    code = "bad_submission"


@dataclass(frozen=True)
class Submission:
    """A checkpoint's note, and the proof (32-byte hashes) that it extends that of size `old`."""

    old: int
    proof: Sequence[bytes]
    note: str

    def encode(self) -> bytes:
        """Return the body to send."""
        lines = [f"old {self.old}", *map(encode_base64, self.proof)]
        return "\n".join([*lines, "", self.note]).encode()

    @classmethod
    def parse(cls, body: bytes) -> Submission:
        """Read a body. Raises `SubmissionError`."""
        try:
            head, blank, note = body.decode("utf-8").partition("\n\n")
        except UnicodeDecodeError as error:
            raise SubmissionError("the submission is not UTF-8") from error
        first, *lines = head.split("\n")
        match = _OLD.fullmatch(first)
        if not blank or match is None:
            raise SubmissionError("a submission begins with `old <size>` and ends with a note")
        if len(lines) > MAX_PROOF:
            raise SubmissionError(f"a proof of {len(lines)} hashes, more than {MAX_PROOF}")
        return cls(int(match[1]), tuple(map(_hash, lines)), note)


def _hash(text: str) -> bytes:
    try:
        value = decode_base64(text)
    except NoteError as error:
        raise SubmissionError(error.message) from error
    if len(value) != HASH_BYTES:
        raise SubmissionError(f"a hash of {len(value)} bytes, not {HASH_BYTES}")
    return value
