"""The batching heart: what fails alone, what is bounded, what is fair. Forwards here are small."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.encoder import Encoder
from inference.errors import GenerationError, QueueFullError, UnavailableError

Text = tuple[int, ...]
WAIT_S = 30


@dataclass
class Sums:
    """A forward that adds a text's numbers up; it can be held, and notes what it computed.

    It fails like torch: over `memory` tokens there is none left, and number 13 breaks the pass.
    """

    memory: int = 10**9
    batches: list[list[Text]] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, texts: Sequence[Text]) -> torch.Tensor:
        self.batches.append(list(texts))
        self.begun.release()
        assert self.gate.wait(WAIT_S)
        if sum(map(len, texts)) > self.memory:
            raise torch.OutOfMemoryError("no memory left")
        if any(13 in text for text in texts):
            raise RuntimeError("number 13")
        if any(99 in text for text in texts):
            raise KeyError("nobody thought of this")
        nan = float("nan")
        return torch.tensor([[nan if 7 in t else float(sum(t)), float(len(t))] for t in texts])

    @property
    def computed(self) -> list[Text]:
        return [text for batch in self.batches for text in batch]


Open = Callable[..., Encoder[Text]]


@pytest.fixture
def open_encoder() -> Iterator[Open]:
    encoders: list[Encoder[Text]] = []

    def open_encoder(forward: Sums, **settings: Any) -> Encoder[Text]:
        chosen: dict[str, Any] = {"batch_tokens": 64, "queue_limit": 100} | settings
        encoders.append(Encoder(forward, name="test", cost=len, **chosen))
        return encoders[-1]

    yield open_encoder
    for encoder in encoders:
        encoder.close()


def rows(result: Any) -> list[list[float]]:
    assert isinstance(result, np.ndarray), result
    listed: list[list[float]] = result.tolist()
    return listed


async def held(forward: Sums) -> None:
    """Wait until a batch has begun, and lies before the gate."""
    assert await asyncio.to_thread(forward.begun.acquire, True, WAIT_S)


# What is refused, and what fails


def test_calls_beyond_the_limit_are_refused_and_the_others_served(open_encoder: Open) -> None:
    encoder = open_encoder(Sums(), queue_limit=2)

    async def work() -> list[Any]:
        calls = (encoder.run([(number,)]) for number in range(4))
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(work())
    assert [rows(answer) for answer in answers[:2]] == [[[0.0, 1.0]], [[1.0, 1.0]]]
    assert [type(answer) for answer in answers[2:]] == [QueueFullError] * 2
    assert rows(asyncio.run(encoder.run([(5,)]))) == [[5.0, 1.0]]


def test_a_closed_encoder_says_so_to_those_who_wait_and_those_who_come(open_encoder: Open) -> None:
    forward = Sums()
    encoder = open_encoder(forward)

    async def work() -> list[Any]:
        forward.gate.clear()
        first = asyncio.ensure_future(encoder.run([(1,)]))
        await held(forward)
        second = asyncio.ensure_future(encoder.run([(2,)]))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(encoder.close))
        await asyncio.sleep(0.05)
        forward.gate.set()
        await closing
        return await asyncio.gather(first, second, encoder.run([(3,)]), return_exceptions=True)

    first, second, third = asyncio.run(work())
    # What computed already is finished.
    assert rows(first) == [[1.0, 1.0]]
    assert isinstance(second, UnavailableError)
    assert isinstance(third, UnavailableError)
    assert forward.computed == [(1,)]


@pytest.mark.parametrize(
    ("bad", "reason"), [((13, 1), "number 13"), ((7, 7), "not numbers")], ids=["fails", "NaN"]
)
def test_a_bad_input_ends_its_own_call_and_no_other(
    open_encoder: Open, bad: Text, reason: str
) -> None:
    forward = Sums()
    encoder = open_encoder(forward)

    async def work() -> list[Any]:
        forward.gate.clear()
        first = asyncio.ensure_future(encoder.run([(0,)]))
        await held(forward)
        calls = [encoder.run([(n, n), (n, n, n)]) for n in (1, 2, 3)]
        calls.insert(1, encoder.run([(4, 4), bad, (5, 5)]))
        waiting = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)
        forward.gate.set()
        await first
        return await asyncio.gather(*waiting, return_exceptions=True)

    one, broken, two, three = asyncio.run(work())
    assert isinstance(broken, GenerationError)
    assert reason in broken.message
    for answer, n in ((one, 1.0), (two, 2.0), (three, 3.0)):
        assert rows(answer) == [[2 * n, 2.0], [3 * n, 3.0]]
    # They met in one batch, or nothing was shown.
    assert any({(1, 1), bad} <= set(batch) for batch in forward.batches)
    assert encoder.stats().running == encoder.stats().waiting == 0


def test_a_batch_without_memory_is_halved_until_it_fits(open_encoder: Open) -> None:
    forward = Sums(memory=10)
    encoder = open_encoder(forward)
    texts = [(n,) * 4 for n in (1, 2, 3, 4, 5)]
    assert rows(asyncio.run(encoder.run(texts))) == [[4.0 * n, 4.0] for n in (1, 2, 3, 4, 5)]
    assert max(sum(map(len, batch)) for batch in forward.batches) > 10


def test_what_never_fits_fails_alone_and_the_engine_lives(open_encoder: Open) -> None:
    encoder = open_encoder(Sums(memory=10))

    async def work() -> list[Any]:
        calls = (encoder.run([(1,) * length]) for length in (3, 11, 4))
        return await asyncio.gather(*calls, return_exceptions=True)

    short, long, middle = asyncio.run(work())
    assert isinstance(long, GenerationError)
    assert "no memory left" in long.message
    assert (rows(short), rows(middle)) == ([[3.0, 3.0]], [[4.0, 4.0]])
    assert rows(asyncio.run(encoder.run([(2, 2)]))) == [[4.0, 2.0]]


def test_what_nobody_thought_of_ends_the_batch_and_not_the_lane(open_encoder: Open) -> None:
    encoder = open_encoder(Sums())
    with pytest.raises(GenerationError, match="the engine failed"):
        asyncio.run(encoder.run([(99,)]))
    assert rows(asyncio.run(encoder.run([(1,)]))) == [[1.0, 1.0]]


# Fair and bounded


def test_a_call_of_many_long_texts_does_not_hold_up_a_short_one(open_encoder: Open) -> None:
    forward = Sums()
    encoder = open_encoder(forward)

    async def work() -> int:
        forward.gate.clear()
        many = asyncio.ensure_future(encoder.run([(1,) * 32] * 256))
        await held(forward)
        short = asyncio.ensure_future(encoder.run([(2, 2)]))
        await asyncio.sleep(0)
        forward.gate.set()
        assert rows(await short) == [[4.0, 2.0]]
        assert len(rows(await many)) == 256
        return next(n for n, batch in enumerate(forward.batches) if (2, 2) in batch)

    # The one that computed when it came, and its own.
    assert asyncio.run(work()) == 1


def test_who_leaves_is_computed_no_further(open_encoder: Open) -> None:
    forward = Sums()
    encoder = open_encoder(forward)

    async def work() -> None:
        forward.gate.clear()
        call = asyncio.ensure_future(encoder.run([(1,) * 32] * 100))
        await held(forward)
        assert (encoder.stats().waiting, encoder.stats().running) == (0, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        forward.gate.set()
        assert rows(await encoder.run([(3,)])) == [[3.0, 1.0]]

    asyncio.run(work())
    assert len(forward.computed) < 5
    stats = encoder.stats()
    assert (stats.waiting, stats.running, stats.finished) == (0, 0, 1)


lengths = st.lists(st.integers(1, 80), min_size=1, max_size=20)


@given(calls=st.lists(lengths, min_size=1, max_size=8), lanes=st.integers(1, 3))
def test_every_input_is_computed_once_within_bounds_and_answered_in_its_order(
    calls: list[list[int]], lanes: int
) -> None:
    forward = Sums()
    encoder: Encoder[Text] = Encoder(
        forward, name="test", cost=len, batch_tokens=64, queue_limit=100, lanes=lanes
    )

    async def work() -> list[Any]:
        return await asyncio.gather(
            *(encoder.run([(1,) * length for length in listed]) for listed in calls)
        )

    try:
        answers = asyncio.run(work())
    finally:
        encoder.close()
    assert [[row[1] for row in answer.tolist()] for answer in answers] == calls
    assert sorted(map(len, forward.computed)) == sorted(n for listed in calls for n in listed)
    for batch in forward.batches:
        assert len(batch) == 1 or sum(map(len, batch)) <= 64
        assert batch == sorted(batch, key=len)


def test_lanes_that_rest_share_what_comes(open_encoder: Open) -> None:
    forward = Sums()
    encoder = open_encoder(forward, lanes=2, batch_tokens=1024)

    async def work() -> None:
        forward.gate.clear()
        call = asyncio.ensure_future(encoder.run([(1,) * 16] * 16))
        await held(forward)
        await held(forward)
        forward.gate.set()
        await call

    asyncio.run(work())
    assert [len(batch) for batch in forward.batches] == [8, 8]
