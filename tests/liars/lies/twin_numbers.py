"""Two payers are given receipts with one number, and the log holds one of them.

Caught by the auditor, check 7, after 2 calls.
Evidence: two signed receipts.
"""

from __future__ import annotations

from tests.liars.actor import ask
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    with stage.node() as actor, stage.node(twin=actor) as other:
        actor.wallet().call()
        answer = other.wallet().call(ask("Good morning"))
        actor.calls += other.calls
        return accused(actor, actor.audit(answer.signed))
