"""All that the payer signed is claimed on chain, more than its calls cost.

Caught by the auditor, check 5, after 1 call.
Evidence: a signed receipt, and the chain.
"""

from __future__ import annotations

from dataclasses import replace

from tests.liars.actor import Actor, ask
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


def claim_all_signed(actor: Actor) -> None:
    settlement, signer = actor.node.settlement, actor.node.signer
    [claim] = actor.node.database.read(settlement.ledger.claims)
    assert claim.max_claimable > claim.total
    greedy = replace(claim, total=claim.max_claimable)
    settlement.channels.claim(signer, signer, [greedy])


def catch(stage: Stage) -> Found:
    with stage.node() as actor:
        actor.wallet().call(ask(stop=["e"]))
        claim_all_signed(actor)
        return accused(actor, actor.audit())
