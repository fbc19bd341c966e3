"""A stream is cut off before its end and charged as a whole.

Caught by the payer's client, check 4, after 1 call.
Evidence: a signed receipt, and the payer's word.
"""

from __future__ import annotations

from tests.liars.actor import Actor
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.stream import kept_of
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        return kept_of(answer, actor, lambda pieces: pieces[: len(pieces) // 2])


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        return refused(actor, actor.wallet().stream)
