"""Two tokens more are counted and charged than came out; the ledger says so too.

Caught by the auditor, check 8, after 1 call.
Evidence: a signed receipt, and the model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from inference.receipt_format import Receipt
from tests.liars.actor import Actor, ask
from tests.liars.finding import Found, accused
from tests.liars.honest import Teller
from tests.liars.stage import EXACT_PRICE, Stage
from tests.liars.wire import WireAnswer

TOKENS: Final = 2
MORE: Final = TOKENS * EXACT_PRICE.output_per_million // 1_000_000


class Liar(Teller):
    def say(self, honest: Receipt) -> Receipt:
        payment, tokens = honest.payment, honest.tokens
        more = replace(
            payment, charged=payment.charged + MORE, cumulative=payment.cumulative + MORE
        )
        return replace(honest, tokens=replace(tokens, output=tokens.output + TOKENS), payment=more)

    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        if not answer.path.startswith("/v1/channels/"):
            return answer
        said = answer.json
        return answer.saying({**said, "cumulative": str(int(said["cumulative"]) + MORE)})


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        answer = actor.wallet().call(ask(stop=["e"]))
        return accused(actor, actor.audit(replayed=[answer]))
