"""The node signs for, and charges, an answer of no bytes.

Caught by the payer's client, check 4, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from dataclasses import replace

from tests.liars.actor import Actor
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest, signed_for
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not (settlement := answer.settlement):
            return answer
        extensions = settlement["extensions"]
        extensions["weightproof"] = signed_for(actor, extensions["weightproof"], b"")
        return replace(answer.settling(settlement), body=b"")


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().call)
