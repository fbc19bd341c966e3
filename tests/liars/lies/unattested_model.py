"""A model is sold that no attester vouched for.

Caught by the auditor, check 6, after 1 call.
Evidence: a signed receipt, and the chain.
"""

from __future__ import annotations

from dataclasses import replace

from registry.policy import Policy
from tests.liars.actor import MODEL
from tests.liars.finding import Found, accused
from tests.liars.stage import Stage


def catch(stage: Stage) -> Found:
    model_id = stage.publish(stage.fresh("unattested"), attest=False)
    lax: Policy = replace(stage.config.registry.policy, min_attestations=0)
    with stage.node(models={MODEL: model_id}, registry={"policy": lax}) as actor:
        actor.wallet().call()
        return accused(actor, actor.audit())
