"""Check 2, for readers by public tools: the head's Ed25519 line is by the key that the node states.

Tools that know C2SP notes read that line and no Ethereum signature, so it must stand for the same
head. `/v1/log` shows the key with the node's signature over it. A node of `log@1` states none: its
heads may bear no such line either, or nobody could tell whose it is.
"""

from __future__ import annotations

from typing import Final

from inference.audit.checkpoint import SignedCheckpoint, own_lines
from inference.audit.note import NoteError
from inference.audit.reader import KeyedLogIdentity, LogReader
from inference.errors import AuditError
from registry.signing.typed_data import Domain

CHECK: Final = 2


def check_note_line(head: SignedCheckpoint, domain: Domain, log: LogReader) -> str:
    """Refuse, with `AuditError` (2), a head whose Ed25519 line is missing, false or another key's.

    Returns what is to be told of it. Raises `BadAnswerError` for a node that does not say whose
    log it keeps.
    """
    stated = log.stated()
    if stated is None:
        return "; its note's key was not asked for"
    try:
        if isinstance(stated, KeyedLogIdentity):
            head.bears(stated.note_key(head.node, domain))
            return "; public tools read the same head"
        if more := own_lines(head) - 1:
            raise NoteError(f"{more} more lines by the log's name, by a key that it does not state")
    except NoteError as error:
        evidence = {"checkpoint": head.note, "log": stated.to_json()}
        raise AuditError(CHECK, f"the head's note: {error.message}", evidence=evidence) from error
    return "; it states no key for public tools"
