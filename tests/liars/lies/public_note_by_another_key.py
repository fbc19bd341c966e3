"""The head that public tools read is signed by a key that the node does not state.

Caught by the auditor, check 2, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from dataclasses import replace

from inference.audit.checkpoint import parse
from inference.audit.note import NoteKey
from registry.signing.ed25519 import Ed25519Key
from tests.liars.actor import Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if answer.path != "/v1/log/checkpoint":
            return answer
        head, lines = parse(answer.body.decode())
        forged = NoteKey(head.origin, Ed25519Key(b"\x07" * 32)).line(head.text())
        return replace(answer, body="\n".join([head.text(), lines[0], forged, ""]).encode())


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
