"""Completions of a real model, read by OpenAI's published types."""

from __future__ import annotations

from typing import Any

import pytest

from inference.catalog import CatalogEntry
from inference.errors import RequestError
from tests.inference.api.conftest import EXACT_PRICE, complete
from tests.inference.api.openai_shapes import completion, events


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["Once", ""]}, "prompt"),
        ({"prompt": "x" * 3000}, "prompt"),
        ({"prompt": ["Once", "\ud800"]}, "prompt"),
        ({"max_tokens": 5000}, "max_tokens"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_its_field(
    entry: CatalogEntry, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(RequestError) as caught:
        complete(entry, **change)
    assert caught.value.param == field


def test_answers_are_numbered_prompt_by_prompt_and_each_prompt_is_paid_once(
    entry: CatalogEntry,
) -> None:
    work = complete(entry, ["Once", "Twice"], n=2)
    answer = completion(work)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in answer.choices}) == 4
    assert work.input_tokens == len("OnceTwice")
    assert work.max_output_tokens == 4 * 24
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(work.output_ids)
    alone = completion(complete(entry, "Once", n=2))
    assert [c.text for c in alone.choices] == [c.text for c in answer.choices[:2]]


def test_a_prompt_is_continued_as_it_is_without_a_template(entry: CatalogEntry) -> None:
    assert complete(entry, "Once").input_ids == entry.loaded.tokenizer.encode(
        "Once", add_special=True
    )


@pytest.mark.parametrize("listed", [0, 2])
def test_logprobs_have_the_older_shape(entry: CatalogEntry, listed: int) -> None:
    answer = completion(complete(entry, logprobs=listed, temperature=0)).choices[0]
    told = answer.logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.text_offset is not None
    assert told.token_logprobs is not None
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) > 0
    assert all(logprob <= 0 for logprob in told.token_logprobs)
    assert told.text_offset == sorted(told.text_offset)
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert token.startswith("bytes:\\x") or answer.text[offset] == token
    if listed:
        assert told.top_logprobs is not None
        assert all(
            token in top and len(top) == 2
            for token, top in zip(told.tokens, told.top_logprobs, strict=True)
        )
    else:
        assert told.top_logprobs is None


def test_a_stream_says_the_same_as_the_answer_in_one_piece(entry: CatalogEntry) -> None:
    how: dict[str, Any] = {"n": 2, "logprobs": 1}
    said = completion(complete(entry, **how))
    work = complete(entry, stream=True, stream_options={"include_usage": True}, **how)
    heard = events(work)
    for choice in said.choices:
        mine = [c for event in heard for c in event["choices"] if c["index"] == choice.index]
        assert "".join(c["text"] for c in mine) == choice.text
        assert choice.logprobs is not None
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            pieces = [item for c in mine for item in c["logprobs"][name]]
            assert pieces == getattr(choice.logprobs, name)
        assert [c["finish_reason"] for c in mine if c["finish_reason"]] == [choice.finish_reason]
    assert heard[-1]["choices"] == []
    assert said.usage is not None
    assert heard[-1]["usage"]["total_tokens"] == said.usage.total_tokens
    assert {event["object"] for event in heard} == {"text_completion"}


def test_exactness_has_its_price(entry: CatalogEntry) -> None:
    assert entry.price_for(complete(entry, determinism="exact")) == EXACT_PRICE
