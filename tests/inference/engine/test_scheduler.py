"""The scheduler: who begins, what a step holds, and that everybody comes to the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from inference.engine.kv_cache import BLOCK, Blocks
from inference.engine.scheduler import BUSY_TOKENS, EXACT_TOKENS, IDLE_TOKENS, Scheduler, Step
from inference.engine.sequence import CANCELLED, LENGTH, Sequence
from inference.errors import QueueFullError
from tests.fakes.paged_forward import Bench, PagedForward

MAX_RUNNING = 4
Make = Callable[..., Bench]


@pytest.fixture
def make() -> Make:
    def made(
        blocks: int = 100, queue: int = 1000, running: int = MAX_RUNNING, invariant: bool = True
    ) -> Bench:
        scheduler = Scheduler(
            Blocks(blocks), queue_limit=queue, max_running=running, invariant=invariant
        )
        return Bench(scheduler, PagedForward(blocks, invariant=invariant))

    return made


def counts(step: Step) -> dict[str, int]:
    return {span.sequence.id: span.count for span in step.spans}


def begun(sequence: Sequence) -> bool:
    return bool(sequence.blocks) or sequence.finished


def prompt(tokens: int, first: int = 1) -> list[int]:
    return [(first + n) % 50 for n in range(tokens)]


# Refusals


def test_more_than_the_queue_holds_is_refused_and_changes_nothing(make: Make) -> None:
    bench = make(queue=2)
    bench.add([1])
    bench.add([1], payer="other")
    with pytest.raises(QueueFullError):
        bench.scheduler.check_room()
    with pytest.raises(QueueFullError):
        bench.add([1], payer="third")
    assert bench.scheduler.waiting == 2
    bench.run(20)
    assert len(bench.ended) == 2


def test_a_prompt_is_admitted_only_when_all_it_can_ever_need_is_free(make: Make) -> None:
    bench = make(blocks=4)
    long = bench.add([1], 3 * BLOCK)
    late = bench.add([2], BLOCK)
    bench.step()
    assert len(long.blocks) == 4
    assert late.blocks == []
    assert bench.scheduler.waiting == 1
    bench.run(200)
    assert {s.id for s in bench.ended} == {long.id, late.id}


def test_what_fits_does_not_overtake_what_does_not_fit_yet(make: Make) -> None:
    bench = make(blocks=8)
    bench.add([1], 4 * BLOCK, payer="a")
    bench.step()
    large = bench.add([2], 7 * BLOCK, payer="b")
    small = [bench.add([3], 1, payer=f"c{n}") for n in range(20)]
    while not begun(large):
        bench.step()
        assert not any(begun(s) for s in small)
        assert bench.steps < 5 * BLOCK
    bench.run(300)


def test_a_large_prompt_begins_although_small_ones_never_cease_to_come(make: Make) -> None:
    bench = make(blocks=8, running=3)
    bench.add([1], 30, payer="greedy")
    bench.step()
    # Its payer has one under way already, those who come have none.
    large = bench.add([2], 7 * BLOCK, payer="greedy")
    for n in range(80):
        bench.add([3], 2, payer=f"new{n}")
        bench.step()
        if begun(large):
            break
    assert begun(large)
    assert bench.steps < 60


def test_no_step_holds_more_prompt_tokens_than_its_budget(make: Make) -> None:
    bench = make(blocks=400, running=32)
    for n in range(40):
        bench.add(prompt(90 + n, n), 8, payer=str(n % 3))
    while not bench.scheduler.idle:
        step = bench.step()
        answers = [s for s in step.spans if s.start >= len(s.sequence.request.prompt_ids)]
        prompts = sum(span.count for span in step.spans) - len(answers)
        assert all(span.count == 1 for span in answers)
        assert prompts <= (BUSY_TOKENS if answers else IDLE_TOKENS)
        assert sum(span.count for span in step.spans) <= IDLE_TOKENS + 32
        assert bench.steps < 500


def test_an_answer_under_way_is_in_every_step(make: Make) -> None:
    bench = make(blocks=400)
    answer = bench.add([1], 50)
    bench.step()
    for n in range(40):
        bench.add(prompt(500, n), 1, payer=str(n))
        assert counts(bench.step())[answer.id] == 1


# Cancelling


def test_one_that_left_frees_its_place_and_blocks_in_the_next_step(make: Make) -> None:
    bench = make(blocks=4, running=1)
    first, second, third = bench.add([1], 40), bench.add([2], 40), bench.add([3], 40)
    bench.step()
    first.cancelled = second.cancelled = True
    step = bench.step()
    assert set(step.left) == {first, second}
    assert [span.sequence for span in step.spans] == [third]
    assert first.finish_reason == second.finish_reason == CANCELLED
    assert bench.scheduler.blocks.used == len(third.blocks)
    third.cancelled = True
    bench.step()
    assert bench.scheduler.idle
    assert bench.scheduler.blocks.used == 0
    assert Counter(bench.ended) == Counter([first, second, third])


def test_ten_thousand_that_leave_take_nothing_with_them(make: Make) -> None:
    bench = make(blocks=50, queue=10_000)
    everybody = [bench.add([n % 50], 30, payer=str(n % 7)) for n in range(10_000)]
    bench.step()
    for sequence in everybody:
        sequence.cancelled = True
    bench.step()
    assert bench.scheduler.idle
    assert bench.scheduler.waiting == bench.scheduler.running == bench.scheduler.blocks.used == 0
    assert Counter(bench.ended) == Counter(everybody)


def test_draining_returns_everybody_once_and_frees_everything(make: Make) -> None:
    bench = make(blocks=8, running=2)
    everybody = [bench.add([n], 30) for n in range(5)]
    bench.step()
    assert Counter(bench.scheduler.drain()) == Counter(everybody)
    assert bench.scheduler.drain() == []
    assert bench.scheduler.idle
    assert bench.scheduler.blocks.used == 0


# Fairness


def test_fifty_of_one_payer_delay_anothers_first_by_no_more_than_those_that_run(
    make: Make,
) -> None:
    bench = make()
    crowd = [bench.add([n], 10 + n, payer="crowd") for n in range(50)]
    bench.step()
    single = bench.add([1], 10, payer="single")
    running = [s for s in crowd if begun(s)]
    assert len(running) == MAX_RUNNING
    while not begun(single):
        # The first place that is free is the single one's.
        assert [s for s in crowd if begun(s)] == running
        bench.step()
        assert bench.steps < 20
    bench.run(1000)


def test_places_are_divided_between_payers_and_then_by_who_came_first(make: Make) -> None:
    bench = make()
    a = [bench.add([n], 9, payer="a") for n in range(10)]
    b = [bench.add([n], 9, payer="b") for n in range(10)]
    c = bench.add([1], 9, payer="c")
    bench.step()
    assert {s for s in (*a, *b, c) if begun(s)} == {a[0], a[1], b[0], c}
    bench.run(200)
    assert [s for s in bench.ended if s in a] == a
    assert [s for s in bench.ended if s in b] == b


def test_a_short_prompt_does_not_wait_for_a_long_one(make: Make) -> None:
    bench = make(blocks=400)
    long = bench.add(prompt(2000), 1, payer="a")
    short = bench.add(prompt(20), 1, payer="b")
    step = bench.step()
    assert counts(step) == {short.id: 20, long.id: BUSY_TOKENS - 20}
    assert short.finish_reason == LENGTH


@pytest.mark.parametrize("invariant", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_a_long_prompt_ends_although_shorter_ones_never_cease_to_come(
    make: Make, invariant: bool, exact: bool
) -> None:
    bench = make(blocks=1000, running=8, invariant=invariant)
    bench.add([1], 400, payer="answering")
    long = bench.add(prompt(640), 1, payer="long", exact=exact)
    for n in range(120):
        for k in range(4):
            bench.add(prompt(60, n), 1, payer=f"short{k}", exact=exact)
        bench.step()
        if long.finished:
            break
    assert long.finished


def test_an_exact_prompt_is_not_held_up_by_others_for_ever(make: Make) -> None:
    bench = make(blocks=1000, running=8, invariant=False)
    bench.add([1], 400, payer="answering")
    exact = bench.add(prompt(640), 1, payer="exact", exact=True)
    for n in range(120):
        for k in range(4):
            bench.add(prompt(60, n), 1, payer=f"short{k}")
        bench.step()
        if exact.finished:
            break
    assert exact.finished


# Exactness


def test_an_exact_prompt_is_cut_at_the_same_places_however_busy_the_engine_is(
    make: Make,
) -> None:
    cuts = []
    for company in (0, 7):
        bench = make(blocks=1000, running=8, invariant=False)
        for n in range(company):
            bench.add(prompt(130 + 31 * n, n), 20, payer=str(n))
        exact = bench.add(prompt(200), 1, payer="x", exact=True)
        seen = []
        while not exact.finished:
            seen += [(s.start, s.count) for s in bench.step().spans if s.sequence is exact]
        cuts.append(seen)
        bench.run(500)
    assert cuts[0] == cuts[1] == [(0, 64), (64, 64), (128, 64), (192, 8)]
    assert EXACT_TOKENS == 64


def test_an_exact_prompt_on_modules_reads_nothing_that_was_computed_before(make: Make) -> None:
    bench = make(invariant=False)
    for exact in (False, True):
        bench.add(prompt(100), 1, exact=exact)
        bench.run(20)
    assert bench.forward.computed_tokens == 200
    bench.add(prompt(100), 1)
    bench.run(20)
    assert bench.forward.computed_tokens == 200 + 100 - 96


# The cache of prompts


@pytest.mark.parametrize(("size", "known"), [(16, 0), (17, 16), (32, 16), (33, 32), (100, 96)])
def test_a_prompt_that_was_computed_is_read_but_for_its_last_token(
    make: Make, size: int, known: int
) -> None:
    bench = make()
    first = bench.add(prompt(size), 3)
    bench.run(20)
    before = bench.forward.computed_tokens
    again = bench.add(prompt(size), 3)
    bench.run(20)
    assert bench.forward.computed_tokens - before == size - known + 2
    assert bench.scheduler.cached_tokens == known
    assert again.tokens == first.tokens


def test_an_answer_is_known_to_the_next_turn_of_a_conversation(make: Make) -> None:
    bench = make()
    first = bench.add(prompt(20), 30)
    bench.run(60)
    before = bench.forward.computed_tokens
    bench.add([*first.tokens, 5, 6], 1)
    bench.run(20)
    # The last token of an answer was never computed: 49 are, 48 of them in full blocks.
    assert bench.forward.computed_tokens - before == 52 - 48


def test_payers_do_not_profit_from_one_another(make: Make) -> None:
    bench = make()
    for payer in ("a", "b"):
        bench.add(prompt(100), 1, payer=payer)
        bench.run(20)
    assert bench.forward.computed_tokens == 200
    assert bench.scheduler.cached_tokens == 0


def test_two_that_begin_alike_at_once_do_not_disturb_one_another(make: Make) -> None:
    bench = make()
    pair = [bench.add(prompt(100), 20), bench.add(prompt(100), 20)]
    bench.run(60)
    assert pair[0].tokens == pair[1].tokens
    assert bench.scheduler.blocks.used == 0
