"""An answer that was drawn before is sold again as a new one.

Caught by the auditor, check 8, after 2 calls.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inference.engine.sequence import GenerationRequest
from tests.liars.actor import ask
from tests.liars.finding import Found, accused
from tests.liars.honest import Engine, Honest
from tests.liars.stage import Stage


class Bent(Engine):
    def __init__(self, honest: Any) -> None:
        super().__init__(honest)
        self.first: Any = None

    def submit(self, request: GenerationRequest) -> str:
        self.first = self.first or request.sampling
        return super().submit(replace(request, sampling=self.first))


class Liar(Honest):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Bent(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        wallet = actor.wallet()
        wallet.call(ask(temperature=1.0))
        again = wallet.call(ask(temperature=1.0))
        return accused(actor, actor.audit(replayed=[again]))
