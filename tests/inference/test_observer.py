"""The observer: what it makes of a call's story, and that it never takes part in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from inference.call import Answer, Call
from inference.call_facts import CallFacts
from inference.errors import (
    GenerationError,
    ModelUnknownError,
    NodeError,
    PaymentRefusedError,
    UnavailableError,
)
from inference.metrics import Metrics
from inference.observer import Observation, Observer
from inference.payments.pricing import Usage
from inference.receipt_format import Receipt
from registry.errors import ChainUnreachableError
from tests.inference.call_samples import receipt
from tests.inference.test_catalog import entry
from tests.inference.test_metrics import samples


@dataclass
class Ears:
    """Hears of calls that ended."""

    heard: list[CallFacts] = field(default_factory=list)

    def ended(self, facts: CallFacts) -> None:
        self.heard.append(facts)

    def close(self) -> None:
        self.heard.clear()


class Broken(Ears):
    def ended(self, facts: CallFacts) -> None:
        raise MemoryError("no room for a line")


@dataclass
class World:
    """A clock that tests move, work whose tokens they make, and an observer."""

    ears: Ears = field(default_factory=Ears)
    metrics: Metrics = field(default_factory=Metrics)
    now: float = 100.0
    made: int = 0

    def observer(self, *before: Ears) -> Observer:
        return Observer(self.metrics, (*before, self.ears), lambda: self.now)

    def begin(self) -> Observation:
        nothing: Any = None
        call = Call("http://node/v1/chat/completions", b"", None, "one", "chat", nothing)
        return self.observer().begin(call)

    def at(self, now: float, made: int) -> None:
        self.now, self.made = 100.0 + now, made

    @property
    def work(self) -> Any:
        world = self

        class Work:
            @property
            def usage(self) -> Usage:
                return Usage(4, world.made)

        return Work()

    @property
    def told(self) -> CallFacts:
        (facts,) = self.ears.heard
        return facts


@pytest.fixture
def world() -> World:
    return World()


def statement(value: Receipt | None = None) -> Any:
    return SimpleNamespace(receipt=SimpleNamespace(receipt=value or receipt()))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ModelUnknownError("no"), "refused", "model_not_found"),
        (UnavailableError("later"), "unavailable", "unavailable"),
        (ChainUnreachableError("gone"), "unavailable", ""),
        (GenerationError("broke"), "error", "generation_failed"),
        (KeyError("bug"), "error", ""),
        (KeyboardInterrupt(), "error", ""),
    ],
)
def test_an_error_passes_through_and_is_told(
    world: World, error: BaseException, status: str, code: str
) -> None:
    with pytest.raises(type(error)), world.begin():
        raise error
    assert (world.told.status, world.told.code, world.told.model) == (status, code, "")
    assert world.told.receipt is None


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (PaymentRefusedError("payment_required", "pay"), "unpaid"),
        (PaymentRefusedError("invalid_signature", "no"), "refused"),
        (UnavailableError("later"), "unavailable"),
    ],
)
def test_an_answer_that_refuses_is_told(world: World, failure: NodeError, status: str) -> None:
    with world.begin() as seen:
        seen.found(entry("one"))
        seen.answered(Answer(failure.status, b"", {}, failure))
    assert (world.told.model, world.told.status) == ("one", status)


def test_a_listener_that_breaks_touches_neither_the_call_nor_the_others(world: World) -> None:
    observer = world.observer(Broken())
    nothing: Any = None
    with observer.begin(Call("http://node/x", b"", None, "one", "chat", nothing)) as seen:
        seen.found(entry("one"))
        seen.paid(world.work)
        seen.recorded(statement())
    assert world.told.status == "ok"
    assert samples(world.metrics)["weightproof_calls_total"] == 1


def test_a_stream_that_is_never_recorded_is_an_error(world: World) -> None:
    with world.begin() as seen:
        seen.found(entry("one"))
        seen.paid(world.work)
    assert world.ears.heard == []
    seen.end()
    assert (world.told.status, world.told.receipt) == ("error", None)


def test_a_call_ends_once(world: World) -> None:
    failure = GenerationError("broke")
    with world.begin() as seen:
        seen.found(entry("one"))
        seen.paid(world.work)
        seen.failed(failure)
        seen.recorded(statement())
        seen.recorded(statement())
        seen.answered(Answer(500, b"", {}, failure))
    seen.end()
    assert (world.told.status, world.told.code) == ("ok", "generation_failed")
    assert samples(world.metrics)["weightproof_output_tokens_total"] == 2


def test_the_times_of_a_stream_are_those_of_its_tokens(world: World) -> None:
    with world.begin() as seen:
        seen.found(entry("one"))
        world.at(1.0, 0)
        seen.paid(world.work)
        for now, made in ((1.5, 0), (3.0, 1), (3.5, 1), (4.0, 3)):
            world.at(now, made)
            seen.piece()
        assert samples(world.metrics)["weightproof_output_tokens_total"] == 3
        world.at(5.0, 3)
        seen.recorded(statement())
    told, found = world.told, samples(world.metrics)
    assert (told.paid_s, told.first_token_s, told.duration_s) == (1.0, 3.0, 5.0)
    assert (told.streamed, told.operation, told.scheme) == (True, "chat", "batch-settlement")
    assert found["weightproof_time_to_first_token_seconds_sum"] == 2.0
    # Two tokens in the second that passed between the two pieces that had any.
    assert found["weightproof_inter_token_seconds_sum"] == 0.5
    assert found["weightproof_inter_token_seconds_count"] == 1
    assert found["weightproof_call_seconds_sum"] == 5.0


def test_what_a_stream_held_back_is_counted_at_its_end(world: World) -> None:
    with world.begin() as seen:
        seen.found(entry("one"))
        seen.paid(world.work)
        world.at(1.0, 1)
        seen.piece()
        seen.recorded(statement())  # of two tokens
    assert samples(world.metrics)["weightproof_output_tokens_total"] == 2


def test_an_answer_in_one_piece_tells_the_mean_time_of_its_tokens(world: World) -> None:
    with world.begin() as seen:
        seen.found(entry("one"))
        world.at(1.0, 0)
        seen.paid(world.work)
        world.at(2.0, 2)
        seen.recorded(statement())
    found = samples(world.metrics)
    assert (world.told.streamed, world.told.first_token_s) == (False, None)
    assert found["weightproof_inter_token_seconds_sum"] == 0.5
    assert found["weightproof_time_to_first_token_seconds_count"] == 0


def test_without_metrics_calls_are_told_all_the_same() -> None:
    ears, nothing = Ears(), None
    call: Any = Call("http://node/x", b"", None, "one", "chat", nothing)  # type: ignore[arg-type]
    with Observer(None, (ears,)).begin(call) as seen:
        seen.found(entry("one"))
        seen.paid(World(made=1).work)
        seen.piece()
        seen.recorded(statement())
    assert ears.heard[0].streamed
