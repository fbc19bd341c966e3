"""The engine's face under hostile input and bad luck: the smallest set fails, nothing is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from inference.engine.engine import TextEngine
from inference.engine.grammar import GrammarConstraint, vocabulary_of
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import GenerationError, RequestError, UnavailableError
from inference.loader import LoadedModel, load
from registry.manifest_parts import Serving
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

PROMPT = tuple(range(40, 60))
PATIENCE_S = 120
# A token whose embedding a test spoils; no tiny model makes it of itself in these answers.
SPOILED = 9


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, PATIENCE_S))


def loaded_by(shelf: Shelf, folder: Path) -> LoadedModel:
    with shelf.verified(folder, task="chat", serving=Serving("F32", 100, 80)) as verified:
        return load(verified, device="cpu", threads=2)


@pytest.fixture
def packed(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    return loaded_by(shelf, tiny_models.llama(tmp_path / "hostile-llama"))


@pytest.fixture
def modules(shelf: Shelf, tmp_path: Path) -> LoadedModel:
    return loaded_by(shelf, tiny_models.gpt2(tmp_path / "hostile-gpt2"))


@pytest.fixture
def engine(packed: LoadedModel) -> Iterator[TextEngine]:
    yield from opened(packed)


@pytest.fixture
def by_modules(modules: LoadedModel) -> Iterator[TextEngine]:
    yield from opened(modules)


def opened(loaded: LoadedModel) -> Iterator[TextEngine]:
    """Serve; afterwards nothing may be left of it, whatever the test did."""
    running = TextEngine(loaded, queue_limit=10_000)
    yield running
    running.close()
    assert running.stats().cache_bytes == 0
    assert (running.stats().waiting, running.stats().running) == (0, 0)
    assert not any(t.name.startswith("engine-hostile") for t in threading.enumerate())


def request(prompt: tuple[int, ...] = PROMPT, size: int = 6) -> GenerationRequest:
    return GenerationRequest(prompt, Sampling(size), exact=True)


async def answer(engine: TextEngine, wanted: GenerationRequest) -> list[int]:
    id = engine.submit(wanted)
    return [token async for delta in engine.stream(id) for token in delta.token_ids]


async def answers(engine: TextEngine, prompts: list[tuple[int, ...]]) -> list[Any]:
    work = (answer(engine, request(prompt)) for prompt in prompts)
    return await asyncio.gather(*work, return_exceptions=True)


async def settled(engine: TextEngine) -> None:
    while engine.stats().running or engine.stats().waiting:
        await asyncio.sleep(0.005)


# Tokens


@pytest.mark.parametrize(
    "token", [-1, -(2**63), tiny_models.VOCABULARY, 2**31 + 5, 2**32 + 40, 2**64]
)
def test_a_token_out_of_range_anywhere_is_refused_and_reaches_no_kernel(
    engine: TextEngine, token: int
) -> None:
    async def work() -> None:
        for at in (0, 7, 19):
            with pytest.raises(RequestError, match="does not know"):
                engine.submit(request((*PROMPT[:at], token, *PROMPT[at:])))
        assert len(await answer(engine, request())) == 6

    run(work())
    assert engine.stats().finished <= 1


# Weights that are no numbers


@pytest.mark.parametrize("what", [float("nan"), float("inf"), float("-inf")])
def test_one_spoiled_embedding_fails_only_the_prompts_that_have_its_token(
    engine: TextEngine, packed: LoadedModel, what: float
) -> None:
    good = [tuple(40 + n + k for k in range(10 + n)) for n in range(12)]
    expected = run(answers(engine, good))
    assert all(SPOILED not in made for made in expected)
    packed.module.model.embed_tokens.weight.detach()[SPOILED, 3] = what
    bad = [(*prompt[:at], SPOILED, *prompt[at:]) for at, prompt in enumerate(good[:6])]
    mixed = [prompt for pair in zip(good, [*bad, *bad], strict=True) for prompt in pair]
    found = run(answers(engine, mixed))
    for made, wanted in zip(found[::2], expected, strict=True):
        assert made == wanted
    for failed in found[1::2]:
        assert isinstance(failed, GenerationError)
        assert "not numbers" in failed.message
    assert run(answers(engine, good)) == expected


@pytest.mark.parametrize("name", ["qkv", "gate_up", "head"])
def test_a_spoiled_matrix_fails_calls_and_not_the_engine(
    engine: TextEngine, packed: LoadedModel, name: str
) -> None:
    expected = run(answer(engine, request()))
    flat = packed.module.get_buffer(f"packed.{name}").detach().view(-1)
    kept = flat[0].clone()
    flat[0] = float("nan")
    other = tuple(range(100, 130))
    for failed in run(answers(engine, [other, other[1:]])):
        assert isinstance(failed, GenerationError)
    flat[0] = kept
    assert run(answer(engine, request())) == expected


# Memory that is lacking


def test_only_the_calls_that_do_not_fit_into_memory_fail(
    by_modules: TextEngine, modules: LoadedModel
) -> None:
    prompts = [tuple(30 + n + k for k in range(8 + n)) for n in range(9)]
    expected = run(answers(by_modules, prompts))
    spoiled = {1, 4, 8}
    prompts = [
        (*prompt[:-1], SPOILED) if n in spoiled else prompt for n, prompt in enumerate(prompts)
    ]
    seen: list[int] = []

    def fail(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(int((inputs[0] == SPOILED).sum()))
        if seen[-1]:
            raise torch.OutOfMemoryError("no memory left")

    hook = modules.module.transformer.wte.register_forward_pre_hook(fail)
    found = run(answers(by_modules, prompts))
    hook.remove()
    for n, made in enumerate(found):
        if n in spoiled:
            assert isinstance(made, GenerationError)
        else:
            assert made == expected[n]
    run(settled(by_modules))
    assert by_modules.stats().failed == len(spoiled)


def test_a_pass_that_fails_together_is_done_in_halves_until_it_fits(
    by_modules: TextEngine, modules: LoadedModel
) -> None:
    most = 30

    def fail(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].numel() > most:
            raise torch.OutOfMemoryError("no memory left")

    hook = modules.module.transformer.wte.register_forward_pre_hook(fail)
    work = [
        GenerationRequest(tuple(range(30 + n, 50 + n)), Sampling(6), payer=str(n))
        for n in range(16)
    ]

    async def together() -> list[list[int]]:
        return list(await asyncio.gather(*(answer(by_modules, wanted) for wanted in work)))

    assert [len(made) for made in run(together())] == [6] * 16
    hook.remove()
    assert by_modules.stats().failed == 0


# Grammars whose library breaks


class NoTokenizer:
    """Breaks off when the library asks it for tokens, where the library expects that nothing can.

    What comes of it is a panic as PyO3 passes it on: of a class that nobody can import.
    """

    eos_token_id, bos_token_id, special_token_ids = 0, None, (0,)
    tokens = (b"<end>", b"a")

    def __call__(self, text: bytes) -> list[int]:
        raise KeyError(text)


class Panicking:
    """A matcher that follows its grammar and panics at the third call of `method`."""

    def __init__(self, real: LLMatcher, method: str) -> None:
        self._real = real
        self._method = method
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        if name == self._method:
            self._calls += 1
            if self._calls == 3:
                LLTokenizer(TokenizerWrapper(NoTokenizer())).tokenize_str("a")
        return getattr(self._real, name)


@pytest.mark.parametrize("method", ["compute_bitmask", "is_accepting", "consume_token"])
def test_a_panic_of_the_grammars_library_ends_the_call_that_has_the_grammar_and_no_other(
    engine: TextEngine, packed: LoadedModel, method: str
) -> None:
    vocabulary = vocabulary_of(packed.tokenizer, rows=packed.vocabulary, ends=packed.end_ids)
    words = LLMatcher.grammar_from_regex("[a-z ]*")

    def broken() -> GrammarConstraint:
        return GrammarConstraint(
            Panicking(LLMatcher(vocabulary.library, words), method), vocabulary
        )

    others = [tuple(40 + n + k for k in range(10 + n)) for n in range(4)]
    expected = run(answers(engine, others))

    async def work() -> list[Any]:
        wanted = GenerationRequest(PROMPT, Sampling(6), constraint=broken)
        return await asyncio.gather(
            answers(engine, others), answer(engine, wanted), return_exceptions=True
        )

    found, failed = run(work())
    assert isinstance(failed, GenerationError), repr(failed)
    assert "PanicException" in failed.message
    assert found == expected
    assert engine.stats().failed == 1


# Readers that are gone


def test_a_loop_that_closed_disturbs_nobody_on_another(engine: TextEngine) -> None:
    async def leave() -> None:
        for _ in range(20):
            engine.submit(request(size=60))

    async def stay() -> None:
        stays = [asyncio.ensure_future(answer(engine, request(size=60))) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(asyncio.run, leave())
        made = await asyncio.gather(*stays)
        assert [len(tokens) for tokens in made] == [60] * 5
        await settled(engine)

    run(stay())


def test_ten_thousand_calls_that_are_cancelled_leave_nothing(engine: TextEngine) -> None:
    async def work() -> None:
        ids = [engine.submit(request((40 + n % 90,) * 20, 60)) for n in range(10_000)]
        for id in ids:
            engine.cancel(id)
            engine.cancel(id)
        await settled(engine)
        assert engine.stats().cache_bytes == 0
        assert len(await answer(engine, request())) == 6
        await settled(engine)

    run(work())
    assert engine._sequences == {}
    assert engine.stats().finished == 10_001


def test_who_cancelled_is_told_so_even_by_a_step_that_breaks(
    by_modules: TextEngine, modules: LoadedModel
) -> None:
    def fail(*_: object) -> None:
        if by_modules.stats().running == 1:
            # The first call is out, and this step is the one that found that it left.
            raise KeyError("a mistake in the program")

    async def work() -> None:
        first = by_modules.submit(request(size=60))
        other = asyncio.ensure_future(answer(by_modules, request(size=60)))
        stream = by_modules.stream(first)
        await anext(stream)
        hook = modules.module.transformer.wte.register_forward_pre_hook(fail)
        by_modules.cancel(first)
        with pytest.raises(GenerationError, match="the engine failed"):
            await other
        async with asyncio.timeout(10):
            rest = [delta async for delta in stream]
        assert rest[-1].finish_reason == "cancelled"
        hook.remove()

    run(work())


# Closing


@pytest.mark.parametrize("which", ["packed", "modules"])
def test_closing_during_a_step_ends_every_call_and_leaves_no_thread(
    shelf: Shelf, tmp_path: Path, which: str
) -> None:
    make = tiny_models.llama if which == "packed" else tiny_models.gpt2
    loaded = loaded_by(shelf, make(tmp_path / f"hostile-{which}"))

    async def work(delay: float) -> None:
        engine = TextEngine(loaded)
        calls = [asyncio.ensure_future(answer(engine, request(size=70))) for _ in range(40)]
        await asyncio.sleep(delay)
        await asyncio.to_thread(engine.close)
        for made in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(made, UnavailableError) or len(made) == 70
        with pytest.raises(UnavailableError):
            engine.submit(request())
        assert engine.stats().cache_bytes == 0

    for delay in (0, 0.003, 0.02):
        run(work(delay))
        assert not any(t.name.startswith("engine-hostile") for t in threading.enumerate())


def test_an_engine_that_closed_before_a_queued_turn_began_lets_nobody_wait(
    packed: LoadedModel,
) -> None:
    engine = TextEngine(packed)
    release = threading.Event()

    async def work() -> None:
        # The engine's thread is busy; the turn of this call stands behind.
        engine._worker.call(release.wait)
        call = asyncio.ensure_future(answer(engine, request()))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
        while not engine._worker._closing:
            await asyncio.sleep(0.001)
        release.set()
        await closing
        with pytest.raises(UnavailableError):
            await call
        with pytest.raises(UnavailableError):
            await asyncio.wait_for(answer(engine, request()), 10)

    run(work())
