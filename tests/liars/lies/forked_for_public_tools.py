"""Public tools are shown another log than auditors, by the line that only they read.

Caught by the auditor, check 2, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from dataclasses import replace

from inference.audit.checkpoint import parse
from inference.audit.note_key import note_key
from tests.liars.actor import Actor
from tests.liars.false_log import FalseHead
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseHead):
    def head(self, honest: str, actor: Actor) -> str:
        head, lines = parse(honest)
        other = note_key(actor.node.signer, head.origin).line(replace(head, root=bytes(32)).text())
        return "\n".join([head.text(), lines[0], other, ""])


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
