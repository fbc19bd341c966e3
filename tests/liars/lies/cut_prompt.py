"""The beginning of the prompt is left out, and the receipt states the whole one.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from inference.engine.sequence import GenerationRequest
from tests.liars.finding import Found, accused
from tests.liars.honest import Engine, Honest
from tests.liars.stage import Stage


class Bent(Engine):
    def submit(self, request: GenerationRequest) -> str:
        return super().submit(replace(request, prompt_ids=request.prompt_ids[-4:]))


class Liar(Honest):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Bent(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(replayed=[answer]))
