"""Who gives way to a new model."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.memory_budget import Holding, MemoryExceededError, giving_way


def held(*sizes: int, busy: str = "") -> list[Holding]:
    """Models a, b, c … of these sizes, paid in this order."""
    names = "abcdefgh"[: len(sizes)]
    return [
        Holding(name, size, float(at), name not in busy)
        for at, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]


def test_without_the_option_nothing_gives_way_and_the_refusal_says_what_to_do() -> None:
    with pytest.raises(MemoryExceededError) as refusal:
        giving_way(held(40, 50), name="new", needed=20, budget=100, unload=False)
    said = f"{refusal.value.message} {refusal.value.hint}"
    for word in ("model new needs 20 bytes", "of the 100", "90 are used", "models unload",
                 "node.memory_budget_bytes", "node.unload_when_full"):  # fmt: skip
        assert word in said


def test_nothing_gives_way_where_that_would_not_help() -> None:
    with pytest.raises(MemoryExceededError, match="needs 101"):
        giving_way(held(40, 50), name="new", needed=101, budget=100, unload=True)
    with pytest.raises(MemoryExceededError, match="needs 60"):
        giving_way(held(40, 50, busy="b"), name="new", needed=60, budget=100, unload=True)


def test_a_model_with_calls_in_flight_never_gives_way() -> None:
    assert giving_way(held(40, 40, busy="a"), name="n", needed=30, budget=100, unload=True) == (
        "b",
    )


def test_what_fits_takes_nobodys_place() -> None:
    assert giving_way(held(40, 50), name="n", needed=10, budget=100, unload=False) == ()


def test_whoever_was_paid_longest_ago_goes_first() -> None:
    assert giving_way(held(30, 30, 30), name="n", needed=30, budget=100, unload=True) == ("a",)


def test_a_small_model_stays_where_a_large_one_goes_anyway() -> None:
    assert giving_way(held(5, 80), name="n", needed=60, budget=100, unload=True) == ("b",)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=7),
    needed=st.integers(0, 120),
    budget=st.integers(0, 200),
)
def test_what_gives_way_is_idle_enough_and_no_more_than_enough(
    sizes: list[tuple[int, bool]], needed: int, budget: int
) -> None:
    listed = [Holding(str(n), size, n, movable) for n, (size, movable) in enumerate(sizes)]
    memory = {one.name: one.memory for one in listed}
    movable = {one.name for one in listed if one.movable}
    used = sum(memory.values())

    def fits(gone: tuple[str, ...]) -> bool:
        return used - sum(memory[name] for name in gone) + needed <= budget

    try:
        chosen = giving_way(listed, name="n", needed=needed, budget=budget, unload=True)
    except MemoryExceededError:
        assert not fits(tuple(movable))
        return
    assert fits(chosen)
    assert set(chosen) <= movable
    assert not any(fits(fewer) for fewer in combinations(chosen, max(0, len(chosen) - 1)) if chosen)
