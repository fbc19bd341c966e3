"""The receipt states another seed than was asked for.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace

from inference.receipt_format import Receipt
from tests.liars.actor import ask
from tests.liars.finding import Found, accused
from tests.liars.honest import Teller
from tests.liars.stage import Stage


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        return replace(honest, sampling=replace(honest.sampling, seed=honest.sampling.seed + 1))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call(ask(temperature=1.0, seed=7))
        return accused(actor, actor.audit(replayed=[answer]))
