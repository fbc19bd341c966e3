"""The payer is told another text than the tokens say that the receipt is about.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from inference.engine.sequence import Delta
from tests.liars.finding import Found, accused
from tests.liars.honest import Engine, Honest
from tests.liars.stage import Stage


class Bent(Engine):
    async def stream(self, id: str) -> AsyncIterator[Delta]:
        async for delta in super().stream(id):
            advert = " Buy our coin!" if delta.finish_reason else ""
            yield replace(delta, text=delta.text + advert)


class Liar(Honest):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Bent(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(answer.signed, replayed=[answer]))
