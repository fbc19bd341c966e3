"""The checkpoint is signed with another key than the node's.

Caught by the auditor, check 1, after 1 call.
Evidence: the answer.
"""

from __future__ import annotations

from inference.audit.checkpoint import checkpoint_domain, parse, sign
from tests.inference.receipt_samples import STRANGER
from tests.liars.actor import Actor
from tests.liars.false_log import FalseHead
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


class Liar(FalseHead):
    def head(self, honest: str, actor: Actor) -> str:
        domain = checkpoint_domain(actor.target.chain_id, actor.target.anchor)
        return sign(parse(honest)[0], STRANGER, domain).note


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
