"""The node says that it sent the rest of the channel back, and keeps it.

Caught by the payer's client, check 5, after 1 call.
Evidence: the answer, and the chain.
"""

from __future__ import annotations

import asyncio

from inference.client import CHAT
from tests.liars.actor import Actor
from tests.liars.finding import Found, refused
from tests.liars.honest import Honest
from tests.liars.stage import Stage
from tests.liars.wire import WireAnswer


class Liar(Honest):
    def wire(self, answer: WireAnswer, actor: Actor) -> WireAnswer:
        settlement = answer.settlement
        if answer.method != "GET" or not settlement:
            return answer
        settlement["transaction"] = "0x" + "13" * 32
        return answer.settling(settlement)


def catch(stage: Stage) -> Found:
    with stage.node(Liar()) as actor:
        wallet = actor.wallet()
        wallet.call()

        async def refund() -> None:
            async with wallet.payer() as payer:
                await payer.refund(CHAT)

        return refused(actor, lambda: asyncio.run(refund()))
