"""Blocks: never promised twice, kept for who may use them again."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.kv_cache import BLOCK, Blocks, Held, blocks_for, names_of

PROMPT = list(range(100, 100 + 3 * BLOCK))


def taken(blocks: Blocks, size: int, names: list[bytes] | None = None) -> Held:
    held = blocks.take(size, names or [])
    assert held is not None
    return held


def named(blocks: Blocks, names: list[bytes]) -> Held:
    """Take blocks for as many names, say they are computed."""
    held = taken(blocks, len(names) * BLOCK)
    for block, name in zip(held.blocks, names, strict=True):
        blocks.name(block, name)
    return held


# Refusals


def test_what_does_not_fit_takes_nothing() -> None:
    blocks = Blocks(4)
    taken(blocks, 2 * BLOCK)
    assert blocks.take(2 * BLOCK + 1) is None
    assert (blocks.used, blocks.available) == (2, 2)
    assert len(taken(blocks, 2 * BLOCK).blocks) == 2
    assert blocks.take(1) is None


def test_a_known_block_that_is_idle_is_not_counted_as_room_twice() -> None:
    blocks, names = Blocks(3), names_of("p", PROMPT)
    blocks.give_back(named(blocks, names).blocks)
    # Three blocks are available, two of them are the beginning itself.
    assert blocks.take(4 * BLOCK, names[:2]) is None
    assert blocks.available == 3
    held = taken(blocks, 3 * BLOCK, names[:2])
    assert (len(set(held.blocks)), held.known, blocks.available) == (3, 2 * BLOCK, 0)


def test_a_name_behind_an_unknown_one_is_not_used() -> None:
    blocks, names = Blocks(8), names_of("p", PROMPT)
    first = named(blocks, names)
    other = names_of("p", [1] * BLOCK)
    assert taken(blocks, 3 * BLOCK, [other[0], *names[1:]]).known == 0
    assert taken(blocks, 3 * BLOCK, names).blocks == first.blocks


def test_a_block_whose_room_was_needed_is_known_no_longer() -> None:
    blocks, names = Blocks(3), names_of("p", PROMPT)
    blocks.give_back(named(blocks, names).blocks)
    everything = taken(blocks, 3 * BLOCK)
    blocks.give_back(everything.blocks)
    assert taken(blocks, 3 * BLOCK, names).known == 0


def test_a_second_block_of_the_same_content_is_not_named_and_none_is_renamed() -> None:
    blocks, names = Blocks(4), names_of("p", PROMPT)
    first = named(blocks, names[:1])
    second = named(blocks, names[:1])
    blocks.name(first.blocks[0], names[1])
    blocks.give_back([*first.blocks, *second.blocks])
    assert taken(blocks, BLOCK, names[:1]).blocks == first.blocks
    assert taken(blocks, BLOCK, names[1:2]).known == 0


# Work


def test_blocks_in_use_are_shared_and_freed_by_the_last_user() -> None:
    blocks, names = Blocks(4), names_of("p", PROMPT)
    first = named(blocks, names)
    second = taken(blocks, 3 * BLOCK + 1, names)
    assert second.blocks[:3] == first.blocks
    assert blocks.available == 0
    blocks.give_back(first.blocks)
    assert blocks.available == 0
    blocks.give_back(second.blocks)
    assert blocks.available == 4


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    blocks = Blocks(2)
    old, new = names_of("p", [1] * BLOCK), names_of("p", [2] * BLOCK)
    for names in (old, new, old):
        held = taken(blocks, BLOCK, names)
        blocks.name(held.blocks[0], names[0])
        blocks.give_back(held.blocks)
    # Both are kept, `old` was used last: room for one more is made of `new`.
    taken(blocks, BLOCK)
    assert taken(blocks, BLOCK, old).known == BLOCK


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    blocks, names = Blocks(3), names_of("p", PROMPT)
    blocks.give_back(named(blocks, names).blocks)
    more = taken(blocks, BLOCK)
    blocks.give_back(more.blocks)
    # Without its beginning what comes later could never be found again.
    assert taken(blocks, 3 * BLOCK, names).known == 2 * BLOCK


def test_names_say_payer_and_every_token_up_to_the_blocks_end() -> None:
    names = names_of("p", [*PROMPT, 7])
    assert len(names) == len(set(names)) == 3
    assert names_of("p", PROMPT, names[:1]) == names
    assert not set(names) & set(names_of("q", PROMPT))
    for at in range(len(PROMPT)):
        other = names_of("p", [*PROMPT[:at], 99, *PROMPT[at + 1 :]])
        first = at // BLOCK
        assert other[:first] == names[:first]
        assert not set(other[first:]) & set(names)


def test_a_token_is_not_taken_for_several_small_ones() -> None:
    assert names_of("", [1] * BLOCK) != names_of("", [1 + 2**32] * BLOCK)
    assert names_of("", [1] * (BLOCK - 1)) == []


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0), (1, 1), (16, 1), (17, 2), (32, 2)])
def test_tokens_are_counted_in_whole_blocks(tokens: int, expected: int) -> None:
    assert blocks_for(tokens) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=60), st.data())
def test_whatever_is_taken_and_given_back_every_block_is_somewhere_once(
    takes: list[tuple[int, int]], data: st.DataObject
) -> None:
    blocks, held = Blocks(9), []
    for prompt, size in takes:
        names = names_of("p", [prompt] * (size - 1) * BLOCK)
        found = blocks.take(size * BLOCK, names)
        room = blocks.available
        if found is not None:
            assert len(set(found.blocks)) == size
            for block, name in zip(found.blocks, names, strict=False):
                blocks.name(block, name)
            held.append(found)
        if held and data.draw(st.booleans()):
            blocks.give_back(held.pop(data.draw(st.integers(0, len(held) - 1))).blocks)
            assert blocks.available >= room
        users = Counter(block for one in held for block in one.blocks)
        assert blocks.used == len(users)
        assert blocks.used + blocks.available == blocks.total
    for one in held:
        blocks.give_back(one.blocks)
    assert blocks.available == 9
    assert sorted(taken(blocks, 9 * BLOCK).blocks) == list(range(9))
