"""Both engines behind one interface: what holds for ours holds for transformers' own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModelForCausalLM

from inference.engine.continuous_engine import ContinuousEngine
from inference.engine.engines import open_generator
from inference.engine.generator import Generator
from inference.engine.sampling import Sampling
from inference.engine.sequence import Delta, GenerationRequest
from inference.errors import (
    GenerationError,
    LoadRefusedError,
    QueueFullError,
    RequestError,
    UnavailableError,
)
from inference.loader import LoadedModel, load
from registry.errors import ConfigError
from registry.manifest_parts import Serving
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

KINDS = ("weightproof", "transformers")
MESSAGES = [{"role": "user", "content": "Hello"}]
PROMPT = tuple(range(40, 52))
# Longer than any test waits for a step; a hang becomes a failure that says where.
PATIENCE_S = 60


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, PATIENCE_S))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def loaded(shelf: Shelf, folder: Path) -> LoadedModel:
    with shelf.verified(folder, task="chat", serving=Serving("F32", 100, 80)) as verified:
        return load(verified, device="cpu", threads=1)


@pytest.fixture(params=KINDS)
def engine(loaded: LoadedModel, request: pytest.FixtureRequest) -> Iterator[Generator]:
    running = open_generator(request.param, loaded, queue_limit=2)
    yield running
    running.close()


@pytest.fixture
def theirs(loaded: LoadedModel) -> Iterator[ContinuousEngine]:
    running = ContinuousEngine(loaded, queue_limit=2)
    yield running
    running.close()


async def collect(engine: Generator, id: str) -> list[Delta]:
    return [delta async for delta in engine.stream(id)]


async def generate(
    engine: Generator, sampling: Sampling, prompt: tuple[int, ...] = PROMPT
) -> list[Delta]:
    return await collect(engine, engine.submit(GenerationRequest(prompt, sampling)))


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


async def settled(engine: Generator) -> None:
    """Wait until nothing computes any more."""
    while engine.stats().running or engine.stats().waiting:
        await asyncio.sleep(0.005)


class OnlyEven:
    """A grammar of even tokens; it notes what came."""

    def __init__(self) -> None:
        self.came: list[int] = []

    def allowed(self) -> npt.NDArray[np.bool_]:
        return np.arange(tiny_models.VOCABULARY) % 2 == 0

    def accept(self, token: int) -> None:
        self.came.append(token)


# Refusals


def test_an_engine_nobody_knows_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="no engine 'vllm'"):
        open_generator("vllm", loaded, queue_limit=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_does_not_chat_is_refused(shelf: Shelf, tmp_path: Path, kind: str) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "reviews")
    with shelf.verified(folder, task="classify") as verified:
        loaded = load(verified, device="cpu", threads=1)
    with pytest.raises(LoadRefusedError, match="cannot chat"):
        open_generator(kind, loaded, queue_limit=1)


def test_what_it_cannot_promise_is_refused_by_name(theirs: ContinuousEngine) -> None:
    with pytest.raises(RequestError, match="the same tokens again") as caught:
        theirs.submit(GenerationRequest(PROMPT, Sampling(4), exact=True))
    assert caught.value.param == "determinism"
    with pytest.raises(RequestError, match="the same tokens again"):
        theirs.check_exact()
    assert "exact" not in theirs.facts_for(exact=True).engine


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "param"),
    [(93, 8, "messages"), (0, 8, "messages"), (1, 81, "max_tokens"), (99, 2, "messages")],
)
def test_what_can_never_fit_is_refused(
    engine: Generator, prompt: int, max_tokens: int, param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        engine.submit(GenerationRequest((1,) * prompt, Sampling(max_tokens)))
    assert caught.value.param == param


@pytest.mark.parametrize("token", [-1, tiny_models.VOCABULARY, 10**9])
def test_a_token_the_model_does_not_know_is_refused(engine: Generator, token: int) -> None:
    with pytest.raises(RequestError, match="does not know"):
        engine.submit(GenerationRequest((1, token), Sampling(1)))


def test_an_unknown_generation_cannot_be_streamed(engine: Generator) -> None:
    with pytest.raises(RequestError, match="no generation"):
        run(collect(engine, "nothing"))


def test_a_call_beyond_the_queue_is_refused_and_the_others_go_on(loaded: LoadedModel) -> None:
    engine = ContinuousEngine(loaded, queue_limit=2, max_running=1)

    async def work() -> None:
        first = engine.stream(engine.submit(GenerationRequest(PROMPT, Sampling(80))))
        await anext(first)
        ids = [engine.submit(GenerationRequest(PROMPT, Sampling(4))) for _ in range(2)]
        assert (engine.stats().running, engine.stats().waiting) == (1, 2)
        with pytest.raises(QueueFullError, match="2 calls are waiting already"):
            engine.submit(GenerationRequest(PROMPT, Sampling(4)))
        with pytest.raises(QueueFullError):
            engine.check_length(4, 4)
        assert len([delta async for delta in first]) == 79
        for deltas in await asyncio.gather(*(collect(engine, id) for id in ids)):
            assert len(tokens(deltas)) == 4

    run(work())
    engine.close()


def test_logits_that_are_not_numbers_end_that_call_only(
    theirs: ContinuousEngine, loaded: LoadedModel
) -> None:
    def spoil(_: object, __: object, output: Any) -> None:
        if output.logits.shape[1] == 2:  # both calls compute together
            output.logits[:, 0] = float("nan")

    async def work() -> None:
        hook = loaded.module.register_forward_hook(spoil)
        ids = [theirs.submit(GenerationRequest(PROMPT, Sampling(40))) for _ in range(2)]
        answers = await asyncio.gather(*(collect(theirs, id) for id in ids), return_exceptions=True)
        hook.remove()
        assert isinstance(answers[0], GenerationError)
        assert "not numbers" in answers[0].message
        assert len(tokens(answers[1])) == 40
        await settled(theirs)

    run(work())
    assert theirs.stats().failed == 1
    assert theirs.stats().cache_bytes == 0


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError, KeyError])
def test_a_pass_that_fails_ends_what_was_under_way_and_the_engine_goes_on(
    theirs: ContinuousEngine, loaded: LoadedModel, failure: type[Exception]
) -> None:
    def fail(*_: object) -> None:
        raise failure("no memory left")

    async def work() -> None:
        for _ in range(2):
            hook = loaded.module.model.layers[1].register_forward_pre_hook(fail)
            ids = [theirs.submit(GenerationRequest(PROMPT, Sampling(4))) for _ in range(2)]
            answers = await asyncio.gather(
                *(collect(theirs, id) for id in ids), return_exceptions=True
            )
            assert all(isinstance(answer, GenerationError) for answer in answers)
            assert "the forward pass failed" in answers[0].message
            hook.remove()
            assert len(tokens(await generate(theirs, Sampling(4)))) == 4
        await settled(theirs)

    run(work())
    assert theirs.stats().failed == 4
    assert theirs.stats().cache_bytes == 0


@pytest.mark.parametrize("kind", KINDS)
def test_closing_ends_calls_under_way_and_refuses_new_ones(loaded: LoadedModel, kind: str) -> None:
    before = set(threading.enumerate())
    engine = open_generator(kind, loaded, queue_limit=2)

    async def work() -> None:
        ids = [engine.submit(GenerationRequest(PROMPT, Sampling(80))) for _ in range(2)]
        readers = [asyncio.ensure_future(collect(engine, id)) for id in ids]
        await asyncio.sleep(0)
        engine.close()
        answers = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(answers[-1], UnavailableError)
        with pytest.raises(UnavailableError, match="was stopped"):
            engine.submit(GenerationRequest(PROMPT, Sampling(4)))

    run(work())
    engine.close()
    assert set(threading.enumerate()) <= before
    assert engine.stats().running == engine.stats().waiting == 0


def test_an_engine_that_was_forgotten_does_not_keep_the_process(loaded: LoadedModel) -> None:
    before = set(threading.enumerate())
    engine = ContinuousEngine(loaded)
    begun = set(threading.enumerate()) - before
    assert [thread.daemon for thread in begun] == [True]
    engine.close()
    assert not begun & set(threading.enumerate())


# Work


@pytest.mark.parametrize("make", [tiny_models.llama, tiny_models.qwen2, tiny_models.gpt2])
def test_greedy_tokens_equal_those_of_transformers(shelf: Shelf, tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / make.__name__)
    with shelf.verified(folder, task="chat") as verified:
        engine = ContinuousEngine(load(verified, device="cpu", threads=1))
    reference = AutoModelForCausalLM.from_pretrained(folder)
    for seed in range(6):
        prompt = torch.randint(
            0, 256, (1, 3 + 7 * seed), generator=torch.Generator().manual_seed(seed)
        )
        expected = reference.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=False
        )
        made = tokens(run(generate(engine, Sampling(30), tuple(prompt[0].tolist()))))
        assert made == expected[0, prompt.shape[1] :].tolist()
    engine.close()


def test_both_engines_draw_the_same_tokens(loaded: LoadedModel) -> None:
    how = Sampling(
        30,
        temperature=Decimal(1),
        top_p=Decimal("0.9"),
        frequency_penalty=Decimal("0.5"),
        seed=7,
        top_logprobs=2,
    )
    answers = []
    for kind in KINDS:
        engine = open_generator(kind, loaded, queue_limit=2)
        answers.append(run(generate(engine, how)))
        engine.close()
    ours, theirs = answers
    assert tokens(ours) == tokens(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.text == other.text
        assert mine.choices[0].logprob == pytest.approx(other.choices[0].logprob, abs=1e-4)
        assert [id for id, _ in mine.choices[0].top] == [id for id, _ in other.choices[0].top]


def test_calls_computed_together_answer_as_alone(engine: Generator) -> None:
    prompts = [PROMPT, tuple(range(90, 150, 3))]

    async def together() -> list[list[Delta]]:
        return await asyncio.gather(*(generate(engine, Sampling(12), p) for p in prompts))

    alone = [tokens(run(generate(engine, Sampling(12), prompt))) for prompt in prompts]
    assert [tokens(deltas) for deltas in run(together())] == alone


def test_a_grammar_is_followed(engine: Generator) -> None:
    grammar = OnlyEven()
    request = GenerationRequest(PROMPT, Sampling(20), constraint=lambda: grammar)

    async def work() -> list[Delta]:
        return await collect(engine, engine.submit(request))

    made = tokens(run(work()))
    assert made == grammar.came
    assert all(token % 2 == 0 for token in made)


def test_deltas_add_up_and_the_last_one_says_why(engine: Generator, loaded: LoadedModel) -> None:
    deltas = run(generate(engine, Sampling(20)))
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "length"
    assert len(tokens(deltas)) == 20
    assert text(deltas) == loaded.tokenizer.decode(tokens(deltas))


@pytest.mark.parametrize("kind", KINDS)
def test_an_end_token_ends_the_answer_and_is_counted(loaded: LoadedModel, kind: str) -> None:
    engine = open_generator(kind, loaded, queue_limit=2)
    made = tokens(run(generate(engine, Sampling(20))))
    engine.close()
    object.__setattr__(loaded, "end_ids", frozenset({made[5]}))
    first = made.index(made[5])
    engine = open_generator(kind, loaded, queue_limit=2)
    deltas = run(generate(engine, Sampling(20)))
    engine.close()
    assert tokens(deltas) == made[: first + 1]
    assert deltas[-1].finish_reason == "stop"
    assert text(deltas) == loaded.tokenizer.decode(made[:first])


def test_a_stop_string_ends_the_answer(engine: Generator) -> None:
    whole = text(run(generate(engine, Sampling(40))))
    stop = whole[10:12]
    deltas = run(generate(engine, Sampling(40, stop=(stop,))))
    assert text(deltas) == whole[: whole.find(stop)]
    assert deltas[-1].finish_reason == "stop"
    assert len(tokens(deltas)) < 40


def test_a_cancelled_call_frees_its_place_and_its_memory(engine: Generator) -> None:
    async def work() -> None:
        first = engine.submit(GenerationRequest(PROMPT, Sampling(80)))
        second = engine.submit(GenerationRequest(PROMPT, Sampling(5)))
        stream = engine.stream(first)
        await anext(stream)
        engine.cancel(first)
        rest = [delta async for delta in stream]
        assert rest[-1] == Delta("", (), "cancelled")
        assert len(rest) < 40
        assert len(tokens(await collect(engine, second))) == 5
        await settled(engine)
        # A step counts who ended when it is done, a moment after their places are free.
        while engine.stats().finished < 2:
            await asyncio.sleep(0.005)

    run(work())
    assert engine.stats().cache_bytes == 0
    assert engine.stats().finished == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_cancelled_at_once_is_not_computed(loaded: LoadedModel, kind: str) -> None:
    engine = open_generator(kind, loaded, queue_limit=20)

    async def work() -> None:
        for _ in range(20):
            engine.cancel(engine.submit(GenerationRequest(PROMPT, Sampling(80))))
            await asyncio.sleep(0)
        await settled(engine)

    run(work())
    assert engine.stats().output_tokens < 80
    assert engine.stats().cache_bytes == 0
    engine.close()


def test_a_request_that_arrives_after_its_cancellation_is_given_up(
    theirs: ContinuousEngine,
) -> None:
    # The manager drops a cancellation that it takes from its queue before the request itself.
    theirs._manager.add_request(list(PROMPT), "cancelled before")

    async def work() -> None:
        await generate(theirs, Sampling(4))
        await settled(theirs)

    run(work())
    assert theirs.stats().cache_bytes == 0


def test_a_reader_that_leaves_cancels_its_call(engine: Generator) -> None:
    async def work() -> None:
        stream: Any = engine.stream(engine.submit(GenerationRequest(PROMPT, Sampling(80))))
        await anext(stream)
        await stream.aclose()
        await settled(engine)

    run(work())
    assert engine.stats().output_tokens < 80


def test_a_call_whose_loop_is_gone_is_given_up(engine: Generator) -> None:
    async def submit() -> None:
        engine.submit(GenerationRequest(PROMPT, Sampling(80)))

    run(submit())
    run(settled(engine))
    assert len(tokens(run(generate(engine, Sampling(3))))) == 3


def test_more_calls_than_the_cache_holds_all_come_to_an_end(loaded: LoadedModel) -> None:
    engine = ContinuousEngine(loaded)
    capacity = engine.stats().cache_capacity

    async def work() -> list[list[Delta]]:
        return await asyncio.gather(*(generate(engine, Sampling(60)) for _ in range(40)))

    made = {tuple(tokens(deltas)) for deltas in run(work())}
    assert {len(answer) for answer in made} == {60}
    assert 0 < capacity == engine.stats().cache_capacity
    engine.close()


def test_stats_count_and_facts_name_the_engine(theirs: ContinuousEngine) -> None:
    async def work() -> None:
        for _ in range(3):
            await generate(theirs, Sampling(4))
        await settled(theirs)

    run(work())
    stats = theirs.stats()
    assert (stats.waiting, stats.running, stats.finished, stats.output_tokens) == (0, 0, 3, 12)
    assert (stats.input_tokens, stats.cached_tokens, stats.cache_bytes) == (36, 0, 0)
    # The token that ends an answer is computed by no further step.
    assert (stats.steps, stats.batch_tokens) == (12, 3 * (len(PROMPT) + 3))
    assert theirs.facts.to_json()["engine"] == "transformers/continuous"
    assert (theirs.facts.dtype, theirs.facts.device, theirs.facts.threads) == ("F32", "cpu", 1)
