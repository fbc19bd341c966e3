"""The checkpoint is signed with another key than the node's.

Caught by the auditor, check 1, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from dataclasses import replace

from inference.audit.checkpoint import checkpoint_domain, parse, sign
from tests.inference.receipt_samples import STRANGER
from tests.liars.actor import Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if answer.path != "/v1/log/checkpoint":
            return answer
        domain = checkpoint_domain(actor.target.chain_id, actor.target.anchor)
        forged = sign(parse(answer.body.decode())[0], STRANGER, domain)
        return replace(answer, body=forged.note.encode())


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
