"""Another model computes the answers than the one that is sold.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from typing import Any

from tests.liars.finding import Found, accused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.swapped import Swapped


class Liar(Honest):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Swapped(honest, stage.engine("other"))


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call()
        return accused(actor, actor.audit(replayed=[answer]))
