"""The node's rounds: what fails is tried again later and later, told, and made up for."""

from __future__ import annotations

from dataclasses import dataclass, field

from inference.rounds import Rounds
from registry.errors import ChainUnreachableError


@dataclass
class Steps:
    """Notes what it is asked; steps in `broken` fail."""

    broken: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    now: float = 1_000.0
    odd: Exception | None = None
    entries: int = 0

    def rescue(self) -> None:
        self._do("rescue")

    def tick(self) -> None:
        self._do("tick")

    def anchor(self) -> None:
        self._do("anchor")
        self.entries = 0

    def unanchored(self) -> int:
        return self.entries

    def answer(self) -> None:
        self._do("answer")

    def clock(self) -> float:
        return self.now

    def _do(self, step: str) -> None:
        if step in self.broken:
            raise self.odd or ChainUnreachableError(f"no {step}")
        self.done.append(step)

    def go(self, rounds: Rounds, seconds: float) -> None:
        """Let so much time pass, going round as `Rounds.run` would."""
        until = self.now + seconds
        while self.now + rounds.pause_s() <= until:
            self.now += rounds.pause_s()
            rounds.go()
        self.now = until


def make(*broken: str) -> tuple[Steps, Rounds]:
    steps = Steps(set(broken))
    return steps, Rounds(steps, look_s=15, every_s=60, clock=steps.clock)


def test_withdrawals_are_looked_for_often_and_all_else_now_and_then() -> None:
    steps, rounds = make()
    steps.go(rounds, 60)
    assert steps.done == ["rescue"] * 4 + ["tick", "anchor"]
    assert rounds.error == ""


def test_a_step_that_fails_stops_no_other() -> None:
    steps, rounds = make("rescue", "tick")
    steps.go(rounds, 200)
    assert set(steps.done) == {"anchor"}
    assert "rescue fails" in rounds.error
    assert "tick fails" in rounds.error


def test_what_fails_is_tried_at_growing_intervals_up_to_the_longest() -> None:
    _, rounds = make("rescue")
    pauses = []
    for _ in range(6):
        pauses.append(rounds.pause_s())
        rounds.go()
    assert pauses == [15, 30, 60, 60, 60, 60]


def test_an_hour_of_failures_is_told_and_made_up_for_at_the_first_round_after_it() -> None:
    steps, rounds = make("rescue", "tick", "anchor")
    steps.go(rounds, 3_600)
    assert steps.done == []
    assert "tick fails for 34" in rounds.error
    assert "no tick" in rounds.error
    steps.broken.clear()
    steps.go(rounds, 60)
    assert steps.done[:3] == ["rescue", "tick", "anchor"]
    assert rounds.error == ""
    assert rounds.pause_s() == 15


def test_an_odd_error_is_told_by_its_kind_and_ends_nothing() -> None:
    steps, rounds = make("tick")
    steps.odd = OSError(24, "too many open files", "/secret/path")
    steps.go(rounds, 200)
    assert "tick fails for" in rounds.error
    assert rounds.error.endswith("OSError")
    steps.broken.clear()
    steps.go(rounds, 200)
    assert "tick" in steps.done
    assert rounds.error == ""


def limits(*broken: str) -> tuple[Steps, Rounds]:
    """A thousand entries or ten minutes, whichever comes first."""
    steps = Steps(set(broken))
    rounds = Rounds(
        steps, look_s=15, every_s=60, clock=steps.clock, anchor_every=1_000, anchor_every_s=600
    )
    return steps, rounds


def anchored_at(steps: Steps, rounds: Rounds, seconds: int, *, entries: int) -> list[float]:
    """Let time pass with so many new entries a second; return when heads were anchored."""
    began, found, count = steps.now, [], steps.done.count("anchor")
    while steps.now < began + seconds:
        steps.now += rounds.pause_s()
        steps.entries += int(rounds.pause_s()) * entries
        rounds.go()
        if steps.done.count("anchor") > count:
            count += 1
            found.append(steps.now - began)
    return found


def test_a_slow_log_is_anchored_when_its_time_has_come() -> None:
    steps, rounds = limits()
    assert anchored_at(steps, rounds, 1_800, entries=1) == [600, 1_200, 1_800]
    assert steps.done.count("tick") == 30


def test_a_fast_log_is_anchored_when_it_has_entries_enough() -> None:
    steps, rounds = limits()
    assert anchored_at(steps, rounds, 300, entries=10) == [105, 210]


def test_the_time_counts_from_the_last_anchor_whatever_caused_it() -> None:
    steps, rounds = limits()
    assert anchored_at(steps, rounds, 105, entries=10) == [105]
    assert anchored_at(steps, rounds, 600, entries=0) == [600]


def test_an_anchor_that_fails_is_tried_again_and_made_up_for() -> None:
    steps, rounds = limits("anchor")
    assert anchored_at(steps, rounds, 900, entries=1) == []
    assert "anchor fails for" in rounds.error
    steps.broken.clear()
    assert len(anchored_at(steps, rounds, 60, entries=1)) == 1
    assert rounds.error == ""


def test_challenges_are_answered_at_every_look_whatever_else_fails() -> None:
    steps, rounds = make("rescue", "tick")
    rounds.answer = steps.answer
    steps.go(rounds, 60)
    assert "answer" in steps.done
    looks = steps.done.count("answer")
    steps.broken.clear()
    steps.go(rounds, 120)
    assert steps.done.count("answer") > looks
