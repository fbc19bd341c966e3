"""The auditor's endpoint of the chain hides that the model was revoked.

Caught by the auditor's second endpoint, before any verdict, after 1 call.
Evidence: two endpoints' answers.
"""

from __future__ import annotations

from tests.liars.actor import MODEL
from tests.liars.finding import Found
from tests.liars.lies.revoked_model import TERMS, Liar, sell_revoked
from tests.liars.stage import Stage
from tests.liars.stale_chain import disputed, stale_view


def catch(stage: Stage) -> Found:
    model_id = stage.publish(stage.fresh("hidden"))
    before = stage.workspace.chain.head().number
    with stage.node(Liar(), models={MODEL: model_id}) as actor:
        sell_revoked(actor, model_id)
        with stale_view(stage, model_id, before) as view:
            return disputed(actor, lambda: actor.audit(terms=TERMS, view=view))
