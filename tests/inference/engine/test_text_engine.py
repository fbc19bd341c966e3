"""The engine: tokens of a real forward pass, from a thread to an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from inference.engine.engine import TextEngine
from inference.engine.prompter import Prompter
from inference.engine.sampling import Sampling
from inference.engine.sequence import Delta, GenerationRequest
from inference.errors import GenerationError, LoadRefusedError, RequestError, UnavailableError
from inference.loader import LoadedModel, load
from registry.manifest_parts import Serving
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

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


@pytest.fixture
def by_modules(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    """A model that transformers' own modules compute."""
    folder = tiny_models.gpt2(tmp_path / "gpt2")
    with shelf.verified(folder, task="chat", serving=Serving("F32", 100, 80)) as verified:
        return load(verified, device="cpu", threads=1)


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[TextEngine]:
    running = TextEngine(loaded, queue_limit=2)
    yield running
    running.close()


async def collect(engine: TextEngine, id: str) -> list[Delta]:
    return [delta async for delta in engine.stream(id)]


async def generate(
    engine: TextEngine, sampling: Sampling, prompt: tuple[int, ...] = PROMPT
) -> list[Delta]:
    return await collect(engine, engine.submit(GenerationRequest(prompt, sampling)))


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


def text(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


async def settled(engine: TextEngine) -> None:
    """Wait until nothing computes any more."""
    while engine.stats().running or engine.stats().waiting:
        await asyncio.sleep(0.005)


# Refusals


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "param"),
    [(93, 8, "messages"), (0, 8, "messages"), (1, 81, "max_tokens"), (99, 2, "messages")],
)
def test_what_can_never_fit_is_refused(
    engine: TextEngine, prompt: int, max_tokens: int, param: str
) -> None:
    with pytest.raises(RequestError) as caught:
        engine.submit(GenerationRequest((1,) * prompt, Sampling(max_tokens)))
    assert caught.value.param == param


@pytest.mark.parametrize("token", [-1, tiny_models.VOCABULARY, 10**9])
def test_a_token_the_model_does_not_know_is_refused(engine: TextEngine, token: int) -> None:
    with pytest.raises(RequestError, match="does not know"):
        engine.submit(GenerationRequest((1, token), Sampling(1)))


def test_a_call_beyond_the_queue_is_refused_and_the_others_go_on(engine: TextEngine) -> None:
    async def work() -> None:
        ids = [engine.submit(GenerationRequest(PROMPT, Sampling(60))) for _ in range(2)]
        with pytest.raises(UnavailableError, match="waiting already"):
            for _ in range(500):  # faster than any step, even if this thread is held up once
                ids.append(engine.submit(GenerationRequest(PROMPT, Sampling(60))))
        for deltas in await asyncio.gather(*(collect(engine, id) for id in ids)):
            assert deltas[-1].finish_reason

    run(work())


def test_an_unknown_generation_cannot_be_streamed(engine: TextEngine) -> None:
    with pytest.raises(RequestError, match="no generation"):
        run(collect(engine, "nothing"))


def test_a_model_that_does_not_chat_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    folder = tiny_models.bert_classifier(tmp_path / "reviews")
    with shelf.verified(folder, task="classify") as verified:
        loaded = load(verified, device="cpu", threads=1)
    with pytest.raises(LoadRefusedError, match="cannot chat"):
        TextEngine(loaded)


def test_logits_that_are_not_numbers_end_that_call_only(
    engine: TextEngine, loaded: LoadedModel
) -> None:
    weight = loaded.module.get_submodule("packed").norms
    good = weight.detach().clone()

    async def work() -> None:
        weight.detach().fill_(float("nan"))
        with pytest.raises(GenerationError, match="not numbers"):
            await generate(engine, Sampling(4))
        weight.detach().copy_(good)
        assert tokens(await generate(engine, Sampling(4)))
        await settled(engine)

    run(work())
    assert engine.stats().cache_bytes == 0


def test_a_forward_pass_that_fails_ends_that_call_only(by_modules: LoadedModel) -> None:
    engine = TextEngine(by_modules)

    def fail(_: object, inputs: tuple[torch.Tensor]) -> None:
        # As if only the long prompt did not fit into memory.
        if inputs[0].shape[1] > len(PROMPT):
            raise torch.OutOfMemoryError("no memory left")

    async def work() -> None:
        hook = by_modules.module.transformer.h[1].register_forward_pre_hook(fail)
        large = engine.submit(GenerationRequest(PROMPT * 4, Sampling(4)))
        small = engine.submit(GenerationRequest(PROMPT, Sampling(4)))
        with pytest.raises(GenerationError, match="the forward pass failed: no memory left"):
            await collect(engine, large)
        assert len(tokens(await collect(engine, small))) == 4
        hook.remove()
        assert len(tokens(await generate(engine, Sampling(4), PROMPT * 4))) == 4
        await settled(engine)

    run(work())
    assert engine.stats().cache_bytes == 0
    assert engine.stats().failed == 1
    engine.close()


def test_a_step_that_breaks_leaves_nobody_waiting(by_modules: LoadedModel) -> None:
    engine = TextEngine(by_modules)

    def fail(*_: object) -> None:
        raise KeyError("a mistake in the program")

    async def work() -> None:
        hook = by_modules.module.transformer.h[1].register_forward_pre_hook(fail)
        ids = [engine.submit(GenerationRequest(PROMPT, Sampling(4))) for _ in range(2)]
        answers = await asyncio.gather(*(collect(engine, id) for id in ids), return_exceptions=True)
        assert all(isinstance(answer, GenerationError) for answer in answers)
        hook.remove()
        assert tokens(await generate(engine, Sampling(4)))

    run(work())
    engine.close()


def test_closing_ends_calls_under_way_and_refuses_new_ones(loaded: LoadedModel) -> None:
    before = set(threading.enumerate())
    engine = TextEngine(loaded)

    async def work() -> None:
        ids = [engine.submit(GenerationRequest(PROMPT, Sampling(80))) for _ in range(3)]
        readers = [asyncio.ensure_future(collect(engine, id)) for id in ids]
        await asyncio.sleep(0)
        engine.close()
        answers = await asyncio.gather(*readers, return_exceptions=True)
        assert isinstance(answers[-1], UnavailableError)
        with pytest.raises(UnavailableError, match="was stopped"):
            engine.submit(GenerationRequest(PROMPT, Sampling(4)))

    run(work())
    engine.close()
    started = set(threading.enumerate()) - before
    assert not any("engine-tiny" in thread.name for thread in started)


# Work


@pytest.mark.parametrize("make", [tiny_models.llama, tiny_models.qwen2, tiny_models.gpt2])
def test_greedy_tokens_equal_those_of_transformers(shelf: Shelf, tmp_path: Path, make: Any) -> None:
    folder = make(tmp_path / make.__name__)
    with shelf.verified(folder, task="chat") as verified:
        engine = TextEngine(load(verified, device="cpu", threads=1))
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


def test_deltas_add_up_and_the_last_one_says_why(engine: TextEngine, loaded: LoadedModel) -> None:
    deltas = run(generate(engine, Sampling(20)))
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason == "length"
    assert len(tokens(deltas)) == 20
    assert text(deltas) == loaded.tokenizer.decode(tokens(deltas))


def test_an_end_token_ends_the_answer_and_is_counted(
    engine: TextEngine, loaded: LoadedModel
) -> None:
    made = tokens(run(generate(engine, Sampling(20))))
    object.__setattr__(loaded, "end_ids", frozenset({made[5]}))
    first = made.index(made[5])
    deltas = run(generate(engine, Sampling(20)))
    assert tokens(deltas) == made[: first + 1]
    assert deltas[-1].finish_reason == "stop"
    assert text(deltas) == loaded.tokenizer.decode(made[:first])


def test_a_stop_string_ends_the_answer(engine: TextEngine) -> None:
    whole = text(run(generate(engine, Sampling(40))))
    stop = whole[10:12]
    deltas = run(generate(engine, Sampling(40, stop=(stop,))))
    assert text(deltas) == whole[: whole.find(stop)]
    assert deltas[-1].finish_reason == "stop"
    assert len(tokens(deltas)) < 40


def test_the_same_seed_gives_the_same_tokens_whoever_else_is_served(engine: TextEngine) -> None:
    how = Sampling(20, temperature=Decimal(1), top_p=Decimal("0.95"), seed=5)

    async def work() -> tuple[list[list[Delta]], list[Delta]]:
        together = await asyncio.gather(
            generate(engine, how), generate(engine, Sampling(20, temperature=Decimal(2), seed=9))
        )
        return together, await generate(engine, how)

    together, alone = run(work())
    assert tokens(together[0]) == tokens(alone)
    assert tokens(together[1]) != tokens(alone)
    other = run(generate(engine, Sampling(20, temperature=Decimal(1), seed=6)))
    assert tokens(other) != tokens(alone)


def test_a_cancelled_call_frees_its_place_and_its_memory(engine: TextEngine) -> None:
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

    run(work())
    assert engine.stats().cache_bytes == 0
    assert engine.stats().finished == 2


def test_a_reader_that_leaves_cancels_its_call(engine: TextEngine) -> None:
    async def work() -> None:
        stream = engine.stream(engine.submit(GenerationRequest(PROMPT, Sampling(80))))
        await anext(stream)
        await stream.aclose()
        await settled(engine)

    run(work())
    assert engine.stats().output_tokens < 80


def test_a_call_whose_loop_is_gone_is_given_up(engine: TextEngine) -> None:
    async def submit() -> None:
        engine.submit(GenerationRequest(PROMPT, Sampling(80)))

    run(submit())
    run(settled(engine))
    assert len(tokens(run(generate(engine, Sampling(3))))) == 3


def test_a_chat_becomes_the_templates_tokens(engine: TextEngine, loaded: LoadedModel) -> None:
    prompter = Prompter(loaded)
    ids = prompter.encode_chat(MESSAGES)
    assert loaded.tokenizer.decode(prompter.encode_text("Hello")) == "Hello"
    assert ids[0] == tiny_models.VOCABULARY - 3
    assert loaded.tokenizer.decode(ids) == "Hello"
    engine.check_length(len(ids), 80)


def test_stats_count_and_facts_name_the_build(engine: TextEngine) -> None:
    async def work() -> None:
        for _ in range(3):
            await generate(engine, Sampling(4))
        await settled(engine)

    run(work())
    stats = engine.stats()
    assert (stats.waiting, stats.running, stats.finished, stats.output_tokens) == (0, 0, 3, 12)
    assert engine.facts.to_json()["engine"] == "weightproof/packed exact"
    assert torch.__version__ in engine.facts.version
    assert (engine.facts.dtype, engine.facts.device, engine.facts.threads) == ("F32", "cpu", 1)
