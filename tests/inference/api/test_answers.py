"""Answers made together: told of in turns, so that a count says which tokens were delivered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from inference.api.answers import Answers
from inference.engine.sampling import Choice, Sampling
from inference.engine.sequence import Delta, GenerationRequest
from inference.errors import GenerationError, UnavailableError

SIZES = (3, 1, 4)


@dataclass
class ScriptedEngine:
    """An engine whose answer to request n are the tokens n0, n1, …; `step` of them at a time."""

    step: int = 1
    room: int = 8
    broken: int = -1
    open: set[str] = field(default_factory=set)

    def submit(self, request: GenerationRequest) -> str:
        if len(self.open) == self.room:
            raise UnavailableError("calls are waiting already")
        self.open.add(str(request.sampling.choice))
        return str(request.sampling.choice)

    async def stream(self, id: str) -> AsyncIterator[Delta]:
        number = int(id)
        if number == self.broken:
            raise GenerationError("broken")
        ids = [10 * number + place for place in range(SIZES[number])]
        for at in range(0, len(ids), self.step):
            await asyncio.sleep(0)
            some = tuple(ids[at : at + self.step])
            reason = "length" if number == 2 else "stop"
            choices = tuple(Choice(token, -1.0, 1.0) for token in some)
            last = at + self.step >= len(ids)
            yield Delta(f"{some}", some, reason if last else None, choices)

    def cancel(self, id: str) -> None:
        self.open.discard(id)


def requests() -> list[GenerationRequest]:
    return [GenerationRequest((1,), Sampling(9, choice=number)) for number in range(3)]


async def first(answers: Answers, count: int) -> list[tuple[int, Delta]]:
    told = []
    async with aclosing(answers.told()) as deltas:
        async for item in deltas:
            told.append(item)
            if answers.output_tokens >= count:
                break
    return told


def answers_of(engine: Any) -> Answers:
    return Answers(engine, requests())


def test_one_request_too_many_gives_up_the_others() -> None:
    engine = ScriptedEngine(room=2)
    with pytest.raises(UnavailableError):
        asyncio.run(first(answers_of(engine), 9))
    assert not engine.open


def test_an_answer_that_breaks_gives_up_the_others() -> None:
    engine = ScriptedEngine(broken=1)
    with pytest.raises(GenerationError):
        asyncio.run(first(answers_of(engine), 9))
    assert not engine.open


@pytest.mark.parametrize("step", [1, 2, 3, 9])
@pytest.mark.parametrize("count", range(1, 9))
def test_the_same_count_is_the_same_tokens_however_many_a_step_makes(step: int, count: int) -> None:
    engine = ScriptedEngine(step=step)
    answers = answers_of(engine)
    asyncio.run(first(answers, count))
    order = [0, 10, 20, 1, 21, 2, 22, 23][:count]
    assert answers.output_ids == tuple(sorted(order))
    assert answers.finish == ("cancelled" if count < 8 else "length")
    assert not engine.open


@pytest.mark.parametrize("step", [1, 2])
def test_each_token_comes_alone_with_its_choice_and_text_with_the_last_of_its_step(
    step: int,
) -> None:
    told = asyncio.run(first(answers_of(ScriptedEngine(step=step)), 9))
    assert all(len(delta.token_ids) == len(delta.choices) == 1 for _, delta in told)
    assert all(delta.token_ids[0] == delta.choices[0].token for _, delta in told)
    text = "".join(delta.text for number, delta in told if number == 2)
    assert text == ("(20,)(21,)(22,)(23,)" if step == 1 else "(20, 21)(22, 23)")
    reasons = {number: delta.finish_reason for number, delta in told}
    assert reasons == {0: "stop", 1: "stop", 2: "length"}
