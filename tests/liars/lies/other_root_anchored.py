"""Another root is anchored than the one that everybody is shown.

Caught by the auditor, check 2, after 1 call.
Evidence: two signed heads, one anchored.
"""

from __future__ import annotations

from tests.liars.false_log import signed_head
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    with stage.node() as actor:
        actor.wallet().call()
        size = actor.node.database.read(actor.node.log.size)
        other = signed_head(actor, [bytes(32)] * size)
        actor.node.settlement.anchors.anchor(actor.node.signer, other)
        return accused(actor, actor.audit())
