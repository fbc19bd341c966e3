"""An honest node is accused of nothing, however long it is watched.

Three lives of one node on one database: payers with channels and with single transfers, whole
answers and streams, several calls at a time, readers that leave midway, an engine that breaks now
and then, refusals; claims, settlements, refunds and anchors in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference.audit.model_standing import Terms
from inference.client import CHAT, CLASSIFY, PaidAnswer, Payer
from inference.engine.sequence import Delta
from inference.errors import GenerationError, NodeError
from tests.liars.actor import CLASSIFIER, MODEL, Actor, ask
from tests.liars.false_log import entries_of
from tests.liars.honest import Engine, Honest
from tests.liars.stage import Stage

LIVES = 3
WALLETS = 4
ROUNDS = 8
# One call of so many breaks in the engine.
BREAKS_EVERY = 17


class Fragile(Engine):
    """Computes honestly, and breaks now and then, as machines do."""

    def __init__(self, honest: Any) -> None:
        super().__init__(honest)
        self.calls = 0

    async def stream(self, id: str) -> AsyncIterator[Delta]:
        self.calls += 1
        if self.calls % BREAKS_EVERY == 0:
            self.cancel(id)
            raise GenerationError("the machine broke")
        async for delta in super().stream(id):
            yield delta


class Unlucky(Honest):
    def engine(self, honest: Any, stage: Stage) -> Any:
        return Fragile(honest) if hasattr(honest, "facts_for") else honest


class Left(Exception):
    """The reader has read enough."""


def leave(text: str) -> None:
    raise Left


async def round_of_calls(payer: Payer, number: int) -> list[PaidAnswer]:
    """Make calls of all kinds; what fails honestly is let pass, a finding is not."""
    body = ask(f"Question {number}", max_tokens=8)
    drawn = ask(f"Surprise {number}", max_tokens=12, temperature=0.9, determinism=None)
    answers = []
    for calls in (
        [payer.call(CHAT, body)],
        [payer.stream(CHAT, drawn, lambda _: None)],
        [payer.call(CHAT, drawn | {"n": 2}), payer.stream(CHAT, body, lambda _: None)],
        [payer.stream(CHAT, drawn | {"max_tokens": 64}, leave)],
        [payer.call(CHAT, body | {"max_tokens": 100_000})],
        [payer.call(CHAT, body | {"model": "nobody's"})],
    ):
        found = await asyncio.gather(*calls, return_exceptions=True)
        answers += [one for one in found if isinstance(one, PaidAnswer)]
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, Left):
                assert isinstance(one, NodeError), repr(one)
                assert one.exit_code != 6, one.message
    return answers


def live(actor: Actor, first: int) -> list[PaidAnswer]:
    """Sell, settle, anchor and refund."""

    async def go() -> list[PaidAnswer]:
        answers = []
        for wallet in wallets:
            async with wallet.payer() as payer:
                for number in range(ROUNDS // 2):
                    answers += await round_of_calls(payer, first + number)
                await asyncio.to_thread(actor.node.settlement.tick)
                for number in range(ROUNDS // 2, ROUNDS):
                    answers += await round_of_calls(payer, first + number)
                if wallet is wallets[0]:
                    await payer.refund(CHAT)
                    answers += await round_of_calls(payer, first + ROUNDS)
                await asyncio.to_thread(actor.node.settlement.anchor)
                wallet.receipts += payer.passbook.receipts
        return answers

    wallets = [actor.wallet() for _ in range(WALLETS)]
    answers = asyncio.run(go())
    answers += [
        actor.wallet().call({"model": CLASSIFIER, "input": "fine"}, CLASSIFY, scheme="exact")
        for _ in range(3)
    ]
    given = [signed for wallet in wallets for signed in wallet.receipts]
    report = actor.audit(*given)
    assert report.ok, report.to_json()
    return answers


@pytest.mark.timeout(240)
def test_a_long_honest_run_raises_no_alarm(stage: Stage) -> None:
    models = {name: stage.models[name] for name in (MODEL, CLASSIFIER)}
    notes, answers, before = [], [], None
    for life in range(LIVES):
        kept = {"database_url": before.node.config.database_url} if before else {}
        with stage.node(Unlucky(), models=models, twin=before, **kept) as actor:
            before = actor
            answers += live(actor, 1000 * life)
            notes.append(actor.note())
            report = actor.audit(
                *(answer.signed for answer in answers),
                known=notes,
                terms=Terms(attesters=stage.config.registry.policy.attesters),
                replayed=[one for one in answers if one.body and _can_be_replayed(one)][::9],
            )
            assert report.ok, report.to_json()
            assert all(check.ran for check in report.checks), report.to_json()
    receipts = entries(actor, "receipt")
    statuses = {status: 0 for status in ("ok", "partial", "failed")}
    for receipt in receipts:
        statuses[receipt["receipt"]["status"]] += 1
    assert sum(statuses.values()) > 300
    assert all(statuses.values()), statuses
    kinds = {entry["action"] for entry in entries(actor, "settlement")}
    assert kinds == {"claim", "settle", "refund"}
    assert len(entries(actor, "anchor")) >= LIVES * WALLETS
    assert len(entries(actor, "start")) == LIVES


def _can_be_replayed(answer: PaidAnswer) -> bool:
    receipt = answer.signed.receipt
    return receipt.request.path == CHAT and receipt.runtime.is_exact


def entries(actor: Actor, kind: str) -> list[dict[str, Any]]:
    return [entry.body for entry in entries_of(actor) if entry.kind == kind]
