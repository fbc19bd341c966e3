"""The most likely tokens are given where others were to be drawn.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from inference.engine.sequence import GenerationRequest
from tests.liars.actor import ask
from tests.liars.finding import Found, accused
from tests.liars.honest import Engine, Honest
from tests.liars.stage import Stage


class Bent(Engine):
    def submit(self, request: GenerationRequest) -> str:
        greedy = replace(request.sampling, temperature=Decimal(0))
        return super().submit(replace(request, sampling=greedy))


class Liar(Honest):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Bent(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call(ask(temperature=1.0, seed=7))
        return accused(actor, actor.audit(replayed=[answer]))
