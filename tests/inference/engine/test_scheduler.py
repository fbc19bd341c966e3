"""First come, first served, with a bounded queue."""

from __future__ import annotations

import asyncio

import pytest

from inference.engine.detokenizer import Detokenizer
from inference.engine.sampling import Sampling
from inference.engine.scheduler import Scheduler
from inference.engine.sequence import GenerationRequest, Outlet, Sequence
from inference.errors import UnavailableError


def sequence(name: str) -> Sequence:
    outlet = Outlet(asyncio.new_event_loop())
    outlet._loop.close()
    request = GenerationRequest((1,), Sampling(2))
    return Sequence(name, request, outlet, Detokenizer(lambda ids: "x" * len(ids)))


def names(sequences: list[Sequence]) -> list[str]:
    return [one.id for one in sequences]


def test_a_sequence_beyond_the_queue_limit_is_refused() -> None:
    scheduler = Scheduler(queue_limit=2)
    for name in "ab":
        scheduler.add(sequence(name))
    with pytest.raises(UnavailableError, match="2 calls are waiting") as caught:
        scheduler.add(sequence("c"))
    assert caught.value.status == 503
    assert scheduler.waiting == 2


def test_sequences_run_one_after_another_in_the_order_they_came() -> None:
    scheduler = Scheduler(queue_limit=8)
    waiting = [sequence(name) for name in "abc"]
    for one in waiting:
        scheduler.add(one)
    for one in waiting:
        assert names(scheduler.schedule()) == [one.id]
        assert names(scheduler.schedule()) == [one.id]
        one.finish_reason = "stop"
        scheduler.drop_finished()
    assert scheduler.idle


def test_a_cancelled_sequence_leaves_the_queue_in_the_next_step() -> None:
    scheduler = Scheduler(queue_limit=8)
    first, second, third = (sequence(name) for name in "abc")
    for one in (first, second, third):
        scheduler.add(one)
    second.cancelled = True
    assert names(scheduler.schedule()) == ["a", "b"]
    assert (scheduler.running, scheduler.waiting) == (1, 1)


def test_draining_takes_everything_out() -> None:
    scheduler = Scheduler(queue_limit=8)
    for name in "abc":
        scheduler.add(sequence(name))
    scheduler.schedule()
    assert sorted(names(scheduler.drain())) == ["a", "b", "c"]
    assert scheduler.idle
