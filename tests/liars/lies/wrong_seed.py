"""The receipt states another seed than was asked for.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from inference.statements import Statements
from tests.liars.actor import ask
from tests.liars.finding import Found, accused
from tests.liars.honest import Honest, Voice
from tests.liars.stage import Stage


class Mouth(Voice):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, sampling=replace(honest.sampling, seed=honest.sampling.seed + 1))


class Liar(Honest):
    def statements(self, honest: Statements) -> Statements:
        return Mouth.of(honest)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call(ask(temperature=1.0, seed=7))
        return accused(actor, actor.audit(replayed=[answer]))
