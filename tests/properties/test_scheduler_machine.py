"""No arrivals, cancels and lengths make the scheduler promise twice, mix payers or forget anybody.

Hypothesis drives the real scheduler and the real blocks; the forward pass remembers what was
computed where and refuses to read anything else. After every step the books are compared with what
the sequences hold.
"""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inference.engine.kv_cache import BLOCK, Blocks, blocks_for, names_of
from inference.engine.scheduler import BUSY_TOKENS, EXACT_TOKENS, IDLE_TOKENS, Scheduler
from inference.engine.sequence import CANCELLED, LENGTH, Sequence
from inference.errors import QueueFullError
from tests.fakes.paged_forward import Bench, CacheFault, PagedForward, states

PAYERS = ("a", "b", "c")
QUEUE = 12
LONGEST_PROMPT = 200
MOST_RUNNING = 8
LONGEST_ANSWER = 24
# Prompts are heads of few texts, so that many begin alike.
TEXTS = tuple([(n * step) % 50 for n in range(LONGEST_PROMPT)] for step in (1, 1, 3))

CALL = st.tuples(
    st.sampled_from(PAYERS),
    st.integers(0, len(TEXTS) - 1),
    st.integers(1, LONGEST_PROMPT),
    st.integers(1, LONGEST_ANSWER),
    st.booleans(),
)


class SchedulerMachine(RuleBasedStateMachine):
    """`alive` and `deadlines` are the world's; the scheduler knows nothing of them."""

    is_invariant = True

    @initialize(running=st.integers(1, MOST_RUNNING), blocks=st.integers(14, 70))
    def open(self, running: int, blocks: int) -> None:
        self.running = running
        scheduler = Scheduler(
            Blocks(blocks), queue_limit=QUEUE, max_running=running, invariant=self.is_invariant
        )
        self.bench = Bench(scheduler, PagedForward(blocks, invariant=self.is_invariant))
        self.alive: list[Sequence] = []
        self.deadlines: dict[str, int] = {}
        self.gone: dict[str, int] = {}

    @rule(burst=st.lists(CALL, min_size=1, max_size=5))
    def arrive(self, burst: list[tuple[str, int, int, int, bool]]) -> None:
        for call in burst:
            self._arrive(*call)

    def _arrive(self, payer: str, text: int, size: int, answer: int, exact: bool) -> None:
        ahead = sum(s.request.payer == payer and not s.blocks for s in self.alive)
        try:
            sequence = self.bench.add(TEXTS[text][:size], answer, payer=payer, exact=exact)
        except QueueFullError:
            assert self.bench.scheduler.waiting == QUEUE
            return
        self.alive.append(sequence)
        self.deadlines[sequence.id] = self.bench.steps + (ahead + 1) * self._patience()

    @rule(which=st.integers(0, 40))
    def cancel(self, which: int) -> None:
        if self.alive:
            sequence = self.alive[which % len(self.alive)]
            sequence.cancelled = True
            self.gone.setdefault(sequence.id, self.bench.steps + 1)

    @rule(count=st.integers(1, 6))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def step(self) -> None:
        step = self.bench.step()
        self._check_budget(step.spans)
        assert len({span.sequence.id for span in step.spans}) == len(step.spans)
        assert all(s.cancelled and s.finish_reason == CANCELLED for s in step.left)
        self.alive = [s for s in self.alive if not s.finished]
        for sequence in self.alive:
            assert not sequence.cancelled, "who left is gone after one step"
            assert self.bench.steps <= self.deadlines[sequence.id], "nobody waits for ever"
        for sequence in (*step.left, *(span.sequence for span in step.spans)):
            if sequence.finished:
                assert sequence.blocks == []

    @invariant()
    def nobody_ends_twice(self) -> None:
        if hasattr(self, "bench"):
            assert all(n == 1 for n in Counter(s.id for s in self.bench.ended).values())
            for s in self.bench.ended:
                assert s.cancelled or s.made == s.request.sampling.max_tokens
                assert s.finish_reason in (LENGTH, CANCELLED)

    @invariant()
    def every_block_is_promised_once(self) -> None:
        if not hasattr(self, "bench"):
            return
        blocks, forward = self.bench.scheduler.blocks, self.bench.forward
        assert blocks.used + blocks.available == blocks.total
        users: dict[int, list[Sequence]] = {}
        for sequence in self.alive:
            assert len(set(sequence.blocks)) == len(sequence.blocks)
            if sequence.blocks:
                assert len(sequence.blocks) == blocks_for(sequence.longest)
            for block in sequence.blocks:
                users.setdefault(block, []).append(sequence)
        assert blocks.used == len(users)
        for block, sharers in users.items():
            if len(sharers) > 1:
                assert len({s.request.payer for s in sharers}) == 1
                for s in sharers:
                    end = (s.blocks.index(block) + 1) * BLOCK
                    assert s.computed >= end, "only what is fully computed is shared"
                    assert forward.holds(s, end)

    @invariant()
    def what_a_name_says_of_a_block_is_there(self) -> None:
        if not hasattr(self, "bench"):
            return
        known, slots = self.bench.scheduler.blocks._known, self.bench.forward.slots
        for sequence in (*self.alive, *self.bench.ended[-5:]):
            names = names_of(sequence.request.payer, sequence.tokens)
            left = states(sequence, len(names) * BLOCK)
            for number, name in enumerate(names):
                if name in known:
                    expected = left[number * BLOCK : (number + 1) * BLOCK]
                    assert slots[known[name]] == expected, "named before it was computed"

    @invariant()
    def running_ones_have_places(self) -> None:
        if hasattr(self, "bench"):
            scheduler = self.bench.scheduler
            under_way = [s for s in self.alive if s.blocks]
            assert scheduler.running == len(under_way) <= self.running
            assert scheduler.waiting + scheduler.running == len(self.alive)
            assert scheduler.idle == (not self.alive)

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            for _ in range(sum(2 * self._patience() for _ in self.alive)):
                if not self.alive:
                    break
                self.step()
            assert not self.alive
            assert self.bench.scheduler.blocks.used == 0
            assert len(self.bench.ended) == len(self.deadlines)
            self._check_answers()

    def _patience(self) -> int:
        """Return in how many steps a payer's next one surely ends.

        One that runs ends within `long` steps. So within as many steps its payer has nobody under
        way but it; then only those overtake it that came before it, one of each payer, and each of
        them and itself waits for no more than those that run.
        """
        return (len(PAYERS) + 2) * self._long()

    def _long(self) -> int:
        if self.is_invariant:
            least = BUSY_TOKENS // MOST_RUNNING
            return -(-LONGEST_PROMPT // least) + LONGEST_ANSWER
        # Exact prompts may have to wait for those of all that came before and run.
        return MOST_RUNNING * -(-LONGEST_PROMPT // 16) + LONGEST_ANSWER

    def _check_budget(self, spans: list) -> None:
        answers = [s for s in spans if s.start >= len(s.sequence.request.prompt_ids)]
        assert all(span.count == 1 for span in answers)
        prompts = sum(span.count for span in spans) - len(answers)
        more = 0 if self.is_invariant else EXACT_TOKENS - 1
        assert prompts <= (BUSY_TOKENS if answers else IDLE_TOKENS) + more

    def _check_answers(self) -> None:
        """Whatever was computed beside them, equal prompts have equal answers."""
        answers: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for s in self.bench.ended:
            made = s.tokens[len(s.request.prompt_ids) :]
            known = answers.setdefault((s.request.payer, s.request.prompt_ids), made)
            size = min(len(known), len(made))
            assert known[:size] == made[:size]


class ModulesMachine(SchedulerMachine):
    """As where results depend on how a prompt is cut: exact ones are cut in one way only."""

    is_invariant = False

    def step(self) -> None:
        before = {s.id: s.computed for s in self.alive}
        super().step()
        for sequence in self.alive:
            if sequence.request.exact and sequence.made == 0:
                start = before[sequence.id]
                assert start % EXACT_TOKENS == sequence.computed % EXACT_TOKENS == 0


Machine = SchedulerMachine.TestCase
Machine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
OnModules = ModulesMachine.TestCase
OnModules.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_a_block_that_is_read_before_it_is_computed_would_be_found() -> None:
    """The machine's own eyes: without them it could not fail."""
    scheduler = Scheduler(Blocks(8), queue_limit=4, max_running=2, invariant=True)
    bench = Bench(scheduler, PagedForward(8))
    first = bench.add(TEXTS[0][:40], 4)
    bench.step()
    bench.forward.slots[first.blocks[1]][3] = b"of somebody else"
    with pytest.raises(CacheFault):
        bench.step()
