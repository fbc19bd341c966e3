"""The head that public tools read is signed by a key that the node does not state.

Caught by the auditor, check 2, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from inference.audit.checkpoint import parse
from inference.audit.note import NoteKey
from registry.signing.ed25519 import Ed25519Key
from tests.liars.actor import Actor
from tests.liars.false_log import FalseHead
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseHead):
    def head(self, honest: str, actor: Actor) -> str:
        head, lines = parse(honest)
        forged = NoteKey(head.origin, Ed25519Key(b"\x07" * 32)).line(head.text())
        return "\n".join([head.text(), lines[0], forged, ""])


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
