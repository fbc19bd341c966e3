"""Pieces of text add up, never split a character, and stop where they should."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.detokenizer import Detokenizer
from registry.text.tokenizer import Tokenizer
from tests.inference import tiny_models


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tiny_models.llama(tmp_path_factory.mktemp("models") / "tiny")
    data = Path(folder / "tokenizer.json").read_bytes()
    return Tokenizer(data, rows=tiny_models.VOCABULARY)


def pieces(tokenizer: Tokenizer, ids: list[int], *stops: str) -> list[str]:
    detokenizer = Detokenizer(tokenizer.decode, stops)
    out = []
    for token in ids:
        out.append(detokenizer.push(token))
        if detokenizer.stopped:
            return out
    return [*out, detokenizer.finish()]


@given(text=st.text(max_size=60))
def test_pieces_of_a_text_add_up_to_it_and_are_whole_characters(
    tokenizer: Tokenizer, text: str
) -> None:
    text = text.replace("\ufffd", "")
    parts = pieces(tokenizer, list(tokenizer.encode(text, add_special=False)))
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


@given(ids=st.lists(st.integers(0, tiny_models.VOCABULARY - 1), max_size=60))
def test_pieces_of_any_tokens_add_up_to_what_decoding_gives(
    tokenizer: Tokenizer, ids: list[int]
) -> None:
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@given(
    text=st.text(alphabet="abcß€𝄞 ", max_size=40),
    stops=st.lists(st.text(alphabet="abcß€𝄞", min_size=1, max_size=4), max_size=4),
)
def test_text_ends_before_the_first_stop_string(
    tokenizer: Tokenizer, text: str, stops: list[str]
) -> None:
    parts = pieces(tokenizer, list(tokenizer.encode(text, add_special=False)), *stops)
    # The stop that is complete first counts; of several, the one that begins first.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert "".join(parts) == text
        return
    read = text[: min(ends)]
    assert "".join(parts) == read[: min(read.find(stop) for stop in stops if stop in read)]


def test_a_stop_string_across_tokens_is_held_back_and_never_given_out(
    tokenizer: Tokenizer,
) -> None:
    ids = list(tokenizer.encode("one EN END two", add_special=False))
    parts = pieces(tokenizer, ids, "END")
    assert "".join(parts) == "one EN "
    assert parts[4:7] == ["", "", "EN "]


def test_text_that_only_began_like_a_stop_string_is_given_out_at_the_end(
    tokenizer: Tokenizer,
) -> None:
    parts = pieces(tokenizer, list(tokenizer.encode("one EN", add_special=False)), "END")
    assert parts[-1] == "EN"
    assert "".join(parts) == "one EN"


def test_bytes_that_never_become_a_character_are_shown_at_the_end(tokenizer: Tokenizer) -> None:
    euro = list(tokenizer.encode("€", add_special=False))
    assert pieces(tokenizer, euro[:2]) == ["", "", "\ufffd"]


def test_special_tokens_have_no_text(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("a", add_special=False), tiny_models.END_ID]
    assert pieces(tokenizer, ids) == ["a", "", ""]


def test_after_a_stop_nothing_more_comes(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer.decode, ("b",))
    given_out = [detokenizer.push(token) for token in tokenizer.encode("abc", add_special=False)]
    assert given_out == ["a", "", ""]
    assert detokenizer.stopped
    assert detokenizer.finish() == ""
