"""A model that its publisher revoked is sold on, at a block where it still stood.

Caught by the auditor, check 6, after 1 call.
Evidence: a signed receipt, and the chain.
"""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Final

from inference.audit.model_standing import Terms
from inference.watcher import Watcher
from tests.liars.actor import MODEL, Actor
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage

TERMS: Final = Terms(revocation_bound_s=1)


class Blind(Watcher):
    """Says that the chain was asked, and does not ask it."""

    def check_records(self) -> None:
        self._answered_at = self.clock()


class Liar(Honest):
    def watcher(self, honest: Watcher) -> Watcher:
        parts = [part.name for part in fields(Watcher) if part.init]
        return Blind(**{name: getattr(honest, name) for name in parts})


def sell_revoked(actor: Actor, model_id: bytes) -> None:
    workspace = actor.stage.workspace
    workspace.records.revoke(workspace.signer("publisher"), model_id, "unsafe")
    revoked_at = workspace.records.record(model_id).revoked_at
    # One second more than the terms allow.
    time.sleep(max(0.0, revoked_at + TERMS.revocation_bound_s + 1 - time.time()))
    actor.wallet().call()


def catch(stage: Stage) -> Found:
    model_id = stage.publish(stage.fresh("revoked"))
    with stage.node(Liar(), models={MODEL: model_id}) as actor:
        sell_revoked(actor, model_id)
        return accused(actor, actor.audit(terms=TERMS))
