"""The beacon: nobody can choose which calls are replayed, and everybody finds the same ones."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from inference.audit.beacon import (
    EVERY,
    BeaconError,
    Window,
    chosen,
    seed,
    window_of,
    windows,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "beacon.json").read_text())
ORIGIN = "example.org/log"


def hash_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_what_is_no_block_hash_is_refused() -> None:
    for wrong in (b"", bytes(31), bytes(33)):
        with pytest.raises(BeaconError, match="32 bytes"):
            seed(wrong, ORIGIN, 1)


def test_an_entry_of_another_window_has_no_rank_in_this_one() -> None:
    window = Window(10, 20, seed(bytes(32), ORIGIN, 20))
    for index in (0, 9, 20, 2**40):
        with pytest.raises(BeaconError, match="is not among 10 to 19"):
            window.rank(index)
        assert window_of([window], index) is None


def test_a_checkpoint_whose_next_block_is_not_there_yet_chooses_nothing() -> None:
    known = windows([(5, 1), (9, 2)], ORIGIN, lambda n: hash_of(n) if n < 3 else None)
    assert [(w.start, w.size) for w in known] == [(0, 5)]
    assert set(chosen(known, range(20), 20)) == set(range(5))
    # Entries behind a window that is missing keep their own.
    later = windows([(5, 1), (9, 2)], ORIGIN, lambda n: hash_of(n) if n != 2 else None)
    assert set(chosen(later, range(20), 20)) == set(range(5, 9))


def test_anchoring_again_does_not_throw_the_dice_again() -> None:
    once = windows([(5, 1)], ORIGIN, hash_of)
    again = windows([(5, 1), (5, 7), (9, 8), (9, 9)], ORIGIN, hash_of)
    assert chosen(once, range(5), 5) == chosen(again, range(5), 5)


def test_every_part_of_the_seed_matters() -> None:
    same = seed(bytes(32), ORIGIN, 5)
    assert len({same, seed(hash_of(1), ORIGIN, 5), seed(bytes(32), "x", 5)}) == 3
    assert seed(bytes(32), ORIGIN, 6) != same


def test_who_replays_more_calls_replays_those_of_others_too() -> None:
    known = windows([(50, 1), (100, 2)], ORIGIN, hash_of)
    few, more = chosen(known, range(100), 7), chosen(known, range(100), 30)
    assert more[:7] == few
    # A call that cannot be replayed takes no other one's place but the next.
    without = chosen(known, [i for i in range(100) if i != few[2]], 7)
    assert without[:6] == (*few[:2], *few[3:])


def test_calls_are_chosen_as_often_as_the_rate_says_and_evenly() -> None:
    window = Window(0, 20_000, seed(secrets.token_bytes(32), ORIGIN, 20_000))
    found = [index for index in range(window.size) if window.chooses(index, 500)]
    # 1000 are expected; six standard deviations are 185.
    assert 815 <= len(found) <= 1185
    assert 300 <= sum(index < 10_000 for index in found) <= 700
    assert not any(window.chooses(index, 0) for index in range(100))
    assert all(window.chooses(index, EVERY) for index in range(100))


@pytest.mark.parametrize("vector", VECTORS["logs"], ids=lambda v: str(v["name"]))
def test_the_vectors_give_the_same_calls_for_ever(vector: dict[str, object]) -> None:
    blocks = {int(n): bytes.fromhex(h[2:]) for n, h in vector["blocks"].items()}  # type: ignore[attr-defined]
    anchored = [(size, block) for size, block in vector["anchored"]]  # type: ignore[attr-defined]
    known = windows(anchored, str(vector["origin"]), blocks.get)
    assert [["0x" + w.seed.hex(), w.start, w.size] for w in known] == vector["windows"]
    eligible: list[int] = vector["eligible"]  # type: ignore[assignment]
    assert list(chosen(known, eligible, len(eligible))) == vector["order"]
