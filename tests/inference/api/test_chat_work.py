"""Chat answers of a real model, read by OpenAI's published types."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from inference.api.answers import Answers
from inference.api.plan import CHAT_PATH, plan_of
from inference.catalog import CatalogEntry
from inference.engine.continuous_engine import ContinuousEngine
from inference.engine.engine import TextEngine
from inference.errors import RequestError
from inference.payments.pricing import quote
from inference.work import Generates
from tests.inference.api.conftest import EXACT_PRICE, PRICE, chat
from tests.inference.api.openai_shapes import chunks, events, whole

ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "size": {"enum": [1, 2, 3]}},
    "required": ["ok", "size"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": ANSWER, "strict": True}}
PARAMETERS = {
    "type": "object",
    "properties": {"at": {"$ref": "#/$defs/place"}},
    "required": ["at"],
    "additionalProperties": False,
    "$defs": {"place": {"enum": ["here", "there"]}},
}
LOOK = {"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}
WAIT = {"type": "function", "function": {"name": "wait"}}


def test_a_model_whose_template_shows_no_tools_is_offered_none(without_tools: CatalogEntry) -> None:
    refused(without_tools, "tools", tools=[LOOK])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "#"},
        {"$ref": "https://example.org/schema.json"},
        {"type": "string", "pattern": "("},
        {"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(6)]} for i in range(8)]},
        {"enum": ["x" * 20 + str(n) for n in range(4000)]},
        {"type": "object", "required": ["a"], "properties": {"a": False}},
        {"type": "object", "unevaluatedProperties": False},
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_that_no_answer_can_be_held_to_is_refused(
    entry: CatalogEntry, schema: dict[str, Any]
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    refused(entry, "response_format", response_format=form)


def test_parameters_that_no_call_can_be_held_to_are_refused(entry: CatalogEntry) -> None:
    bad = {"type": "function", "function": {"name": "look", "parameters": {"type": "nothing"}}}
    refused(entry, "tools", tools=[bad], tool_choice="required")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"text": "x" * 3000}, "messages"),
        ({"text": "x" * 1_100_000}, "messages"),
        ({"text": "\ud800"}, "messages"),
        ({"max_tokens": 5000}, "max_tokens"),
        ({"max_tokens": None, "max_completion_tokens": 5000}, "max_completion_tokens"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_its_field(
    entry: CatalogEntry, change: dict[str, Any], field: str
) -> None:
    refused(entry, field, **change)


def test_an_answer_has_openais_shape_and_counts_all_its_tokens(entry: CatalogEntry) -> None:
    work = chat(entry)
    answer = whole(work)
    assert answer.model == entry.name
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(work.output_ids) == work.usage.output_tokens
    assert answer.usage.prompt_tokens == work.input_tokens
    assert work.finish == answer.choices[0].finish_reason


def test_several_answers_are_each_drawn_anew_and_paid_together(entry: CatalogEntry) -> None:
    work = chat(entry, n=3)
    answer = whole(work)
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts[0] == whole(chat(entry)).choices[0].message.content
    assert work.max_output_tokens == work.sampling.max_tokens == 3 * 24
    assert quote(PRICE, work.input_tokens, 72) == quote(
        entry.price_for(work), work.input_tokens, work.max_output_tokens
    )
    assert entry.loaded.tokenizer.decode(work.output_ids) == "".join(map(str, texts))


def test_a_stream_says_the_same_as_the_answer_in_one_piece(entry: CatalogEntry) -> None:
    how = {"n": 2, "logprobs": True, "top_logprobs": 2}
    work = chat(entry, stream=True, stream_options={"include_usage": True}, **how)
    heard, said = chunks(work), whole(chat(entry, **how))
    for choice in said.choices:
        mine = [c for chunk in heard for c in chunk.choices if c.index == choice.index]
        assert mine[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in mine) == choice.message.content
        entries = [e for c in mine if c.logprobs for e in c.logprobs.content or []]
        assert choice.logprobs is not None
        assert entries == choice.logprobs.content
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
        assert mine[-1].finish_reason
    assert heard[-1].choices == []
    assert heard[-1].usage == said.usage
    assert all(chunk.usage is None for chunk in heard[:-1])


def test_without_being_asked_a_stream_does_not_tell_its_usage(entry: CatalogEntry) -> None:
    assert all("usage" not in event for event in events(chat(entry, stream=True)))


def test_logprobs_are_of_each_token_and_its_bytes_add_up_to_the_text(entry: CatalogEntry) -> None:
    work = chat(entry, logprobs=True, top_logprobs=3, temperature=0)
    answer = whole(work).choices[0]
    assert answer.logprobs is not None
    entries = answer.logprobs.content or []
    data = b"".join(bytes(item.bytes or []) for item in entries)
    assert data.decode(errors="replace") == answer.message.content
    assert len(entries) == len([id for id in work.output_ids if id not in entry.loaded.end_ids])
    for item in entries:
        assert item.logprob <= 0
        assert [top.logprob for top in item.top_logprobs] == sorted(
            (top.logprob for top in item.top_logprobs), reverse=True
        )
        assert len(item.top_logprobs) == 3
        # Greedy: the likeliest token is the one that came.
        assert item.top_logprobs[0].bytes == item.bytes


def test_a_stop_string_across_tokens_ends_the_answer_and_is_not_given_out(
    entry: CatalogEntry,
) -> None:
    text = whole(chat(entry)).choices[0].message.content or ""
    stop = next(text[at : at + 3] for at in range(4, 20) if "\ufffd" not in text[at : at + 3])
    # Each token of this model is one byte, so that a stop string always crosses some.
    for more in ({}, {"stream": True}):
        work = chat(entry, stop=[stop, "never said"], **more)
        if more:
            said = "".join(c.delta.content or "" for chunk in chunks(work) for c in chunk.choices)
        else:
            said = whole(work).choices[0].message.content or ""
        assert said == text[: text.index(stop)]
        assert work.finish == "stop"


def test_penalties_change_what_is_said(entry: CatalogEntry) -> None:
    plain = chat(entry, temperature=0, max_tokens=64)
    often = chat(entry, temperature=0, max_tokens=64, frequency_penalty=2, presence_penalty=2)
    whole(plain)
    whole(often)
    assert len(set(often.output_ids)) > len(set(plain.output_ids))


def test_an_answer_follows_its_schema_and_then_ends(entry: CatalogEntry) -> None:
    work = chat(entry, response_format=FORMAT, max_tokens=64, n=3, temperature=2)
    for choice in whole(work).choices:
        said = json.loads(choice.message.content or "")
        assert said.keys() == {"ok", "size"}
        assert isinstance(said["ok"], bool)
        assert said["size"] in (1, 2, 3)
        assert choice.finish_reason == "stop"


def test_any_object_begins_as_one(entry: CatalogEntry) -> None:
    answer = whole(chat(entry, response_format={"type": "json_object"}))
    assert (answer.choices[0].message.content or "").startswith("{")
    text = whole(chat(entry, response_format={"type": "text"}))
    assert text.choices[0].message.content == whole(chat(entry)).choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
def test_a_call_that_is_demanded_is_made(entry: CatalogEntry, choice: Any) -> None:
    how = {"tools": [LOOK, WAIT], "tool_choice": choice, "max_tokens": 128}
    answer = whole(chat(entry, **how)).choices[0]
    calls = answer.message.tool_calls or []
    assert answer.finish_reason == "tool_calls"
    assert answer.message.content is None
    assert len(calls) == 1
    assert calls[0].type == "function"
    if calls[0].function.name == "look":
        assert json.loads(calls[0].function.arguments)["at"] in ("here", "there")
    assert choice == "required" or calls[0].function.name == "look"
    heard = [c for chunk in chunks(chat(entry, stream=True, **how)) for c in chunk.choices]
    (told,) = [call for c in heard for call in c.delta.tool_calls or []]
    assert told.function is not None
    assert (told.index, told.function.name) == (0, calls[0].function.name)
    assert told.function.arguments == calls[0].function.arguments
    assert not any(c.delta.content for c in heard)
    assert heard[-1].finish_reason == "tool_calls"


def test_tools_are_shown_to_the_model_unless_none_may_be_called(entry: CatalogEntry) -> None:
    plain = chat(entry).input_ids
    assert chat(entry, tools=[LOOK], tool_choice="none").input_ids == plain
    shown = entry.loaded.tokenizer.decode(chat(entry, tools=[LOOK]).input_ids)
    assert '"name": "look"' in shown
    assert '"$ref": "#/$defs/place"' in shown


def test_a_call_and_its_result_are_shown_to_the_model(entry: CatalogEntry) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    messages = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None},
        {"role": "tool", "tool_call_id": "c1", "content": "here"},
    ]
    shown = entry.loaded.tokenizer.decode(chat(entry, messages=messages).input_ids)
    assert '<tool_call>{"name": "look", "arguments": {"at": 1}}</tool_call>' in shown
    assert shown.endswith("here")


def test_exactness_has_its_price_and_reaches_the_engine(entry: CatalogEntry) -> None:
    plain, exact = chat(entry), chat(entry, determinism="exact")
    assert isinstance(exact, Generates)
    assert (entry.price_for(plain), entry.price_for(exact)) == (PRICE, EXACT_PRICE)
    exact.payer = "0xabc"
    asked = exact._plan.requests(exact.payer)
    assert [(request.exact, request.payer) for request in asked] == [(True, "0xabc")]
    assert whole(exact).choices[0].message == whole(plain).choices[0].message


def test_another_engine_refuses_exactness_before_it_is_paid_and_answers_alike(
    entry: CatalogEntry,
) -> None:
    theirs = replace(entry, engine=ContinuousEngine(entry.loaded))
    refused(theirs, "determinism", determinism="exact")
    more = {"n": 2, "temperature": 1, "response_format": FORMAT, "max_tokens": 40}
    answers = [
        [choice.message for choice in whole(chat(one, **more)).choices] for one in (entry, theirs)
    ]
    theirs.engine.close()
    assert answers[0] == answers[1]


def test_an_auditor_makes_the_same_plan_and_the_same_beginning(entry: CatalogEntry) -> None:
    more = {"n": 3, "presence_penalty": 1.5, "response_format": FORMAT, "max_tokens": 40}
    body = {"model": "x", "messages": [{"role": "user", "content": "Hello"}], **more}
    work = chat(entry, **more)
    whole(work)
    engine = entry.engine
    assert isinstance(engine, TextEngine)
    plan = plan_of(CHAT_PATH, json.dumps(body).encode(), entry.loaded, seed=7)
    assert plan.total == work.sampling
    assert plan.input_ids == work.input_ids
    answers = Answers(engine, plan.requests(""))

    async def go(limit: int) -> tuple[int, ...]:
        answers = Answers(engine, plan.requests(""))
        async with aclosing(answers.told()) as told:
            async for _ in told:
                if answers.output_tokens >= limit:
                    break
        return answers.output_ids

    assert answers.output_ids == ()
    assert asyncio.run(go(plan.total.max_tokens)) == work.output_ids


def test_a_stream_left_midway_is_the_beginning_an_auditor_finds(entry: CatalogEntry) -> None:
    work = chat(entry, n=2, stream=True)

    async def leave() -> tuple[int, ...]:
        async with aclosing(work.perform()) as pieces:
            async for _ in pieces:
                if len(work.output_ids) == 7:
                    break
        return work.output_ids

    left = asyncio.run(leave())
    one, both = chat(entry), chat(entry, n=2)
    whole(one)
    whole(both)
    assert min(len(one.output_ids), len(both.output_ids) - len(one.output_ids)) >= 4
    begin = len(one.output_ids)
    assert left == both.output_ids[:4] + both.output_ids[begin : begin + 3]
    assert work.finish == "cancelled"


def refused(entry: CatalogEntry, field: str, **change: Any) -> None:
    with pytest.raises(RequestError) as caught:
        chat(entry, **change)
    assert caught.value.param == field
