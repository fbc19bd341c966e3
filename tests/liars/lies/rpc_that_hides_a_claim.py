"""The auditor's endpoint of the chain hides that more was claimed than calls cost.

Caught by the auditor's second endpoint, before any verdict, after 1 call.
Evidence: two endpoints' answers.
"""

from __future__ import annotations

from tests.liars.actor import ask
from tests.liars.finding import Found
from tests.liars.lies.claimed_too_much import claim_all_signed
from tests.liars.stage import Stage
from tests.liars.stale_chain import disputed, stale_view


def catch(stage: Stage) -> Found:
    with stage.node() as actor:
        answer = actor.wallet().call(ask(stop=["e"]))
        before = stage.workspace.chain.head().number
        claim_all_signed(actor)
        channel = answer.signed.receipt.payment.channel
        with stale_view(stage, channel, before) as view:
            return disputed(actor, lambda: actor.audit(view=view))
