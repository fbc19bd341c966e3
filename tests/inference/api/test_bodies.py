"""Bodies of the text routes: what is wrong in one is a refusal that names the field."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest

from inference.api.chat_body import ChatRequest
from inference.api.completion_body import CompletionRequest
from inference.api.schemas import parse
from inference.errors import RequestError

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
TEXT = {"model": "m", "prompt": "x"}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "other"}}
STRICT = {"type": "function", "function": {"name": "look", "strict": True}}
NAN, INFINITY = float("nan"), float("inf")


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def schema(value: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}


def message(**more: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x"} | more]


def called(arguments: str) -> list[dict[str, Any]]:
    function = {"name": "look", "arguments": arguments}
    return message(
        role="assistant", tool_calls=[{"id": "1", "type": "function", "function": function}]
    )


BOTH = [
    ({"stop": ["a"] * 10_000}, "stop"),
    ({"stop": [""]}, "stop.0"),
    ({"stop": "a" * 257}, "stop"),
    ({"stop": 7}, "stop"),
    ({"temperature": NAN}, "temperature"),
    ({"temperature": INFINITY}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": 2.1}, "temperature"),
    ({"temperature": "1"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": 1e-40}, "temperature"),
    ({"top_p": NAN}, "top_p"),
    ({"top_p": 0}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**53}, "seed"),
    ({"frequency_penalty": NAN}, "frequency_penalty"),
    ({"frequency_penalty": -2.1}, "frequency_penalty"),
    ({"presence_penalty": 2.1}, "presence_penalty"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -5}, "max_tokens"),
    ({"max_tokens": NAN}, "max_tokens"),
    ({"max_tokens": 10**400}, "max_tokens"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": NAN}, "n"),
    ({"model": ""}, "model"),
    ({"model": NAN}, "model"),
    ({"stream": 1}, "stream"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}},
     "stream_options.include_obfuscation"),
    ({"determinism": "best"}, "determinism"),
    ({"logit_bias": {}}, "logit_bias"),
    ({"service_tier": "auto"}, "service_tier"),
    ({"a" * 10_000: 1}, "a" * 200),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field"), BOTH)
@pytest.mark.parametrize(("kind", "body"), [(ChatRequest, CHAT), (CompletionRequest, TEXT)])
def test_what_is_wrong_on_both_routes_is_named(
    kind: type[ChatRequest], body: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    refused(kind, body | change, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [CHAT["messages"][0]] * 1025}, "messages"),
        ({"messages": message(role="robot")}, "messages.0.role"),
        ({"messages": message(content=None)}, "messages.0"),
        ({"messages": message(content=[{"type": "image_url"}])}, "messages.0.content.0.type"),
        ({"messages": message(content=7)}, "messages.0.content"),
        ({"messages": message(name="n")}, "messages.0.name"),
        ({"messages": message(tool_call_id="1")}, "messages.0"),
        ({"messages": message(role="tool")}, "messages.0"),
        ({"messages": called("[]")}, "messages.0.tool_calls.0.function.arguments"),
        ({"messages": called("{")}, "messages.0.tool_calls.0.function.arguments"),
        ({"messages": called('{"a": NaN}')}, "messages.0.tool_calls.0.function.arguments"),
        ({"messages": called('{"a":' * 90_000)}, "messages.0.tool_calls.0.function.arguments"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": schema([])}, "response_format.json_schema.schema"),
        ({"response_format": schema({"minimum": NAN})}, "response_format.json_schema.schema"),
        ({"response_format": schema(deep(100))}, "response_format.json_schema.schema"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [STRICT]}, "tools.0.function.strict"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "always"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        ({"tools": [TOOL], "response_format": {"type": "json_object"}}, "response_format"),
        ({"parallel_tool_calls": True}, "parallel_tool_calls"),
        ({"functions": []}, "functions"),
    ],
)
def test_what_is_wrong_in_a_chat_is_named(change: dict[str, Any], field: str) -> None:
    refused(ChatRequest, CHAT | change, field)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": ["a"] * 17}, "prompt"),
        ({"prompt": ["a"] * 16, "n": 3}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"suffix": "s"}, "suffix"),
        ({"best_of": 2}, "best_of"),
    ],
)
def test_what_is_wrong_in_a_completion_is_named(change: dict[str, Any], field: str) -> None:
    refused(CompletionRequest, TEXT | change, field)


def test_a_field_that_is_missing_is_named() -> None:
    refused(CompletionRequest, {"model": "m"}, "prompt")
    refused(ChatRequest, {"model": "m"}, "messages")


def test_a_field_that_comes_twice_is_named() -> None:
    with pytest.raises(RequestError) as caught:
        parse(CompletionRequest, b'{"model": "a", "prompt": "x", "model": "b"}')
    assert caught.value.param == "model"


@pytest.mark.parametrize("body", [b"\xff", b'{"prompt": "\xc3"}', b"", b"[", b"{}{}"])
def test_what_is_no_json_in_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="not JSON"):
        parse(CompletionRequest, body)


def test_a_body_of_nothing_but_errors_is_refused_at_once() -> None:
    wrong = [{"role": "user", "content": 7, "x": 1}] * 1024
    body = json.dumps({"model": "m", "messages": wrong, **{f"f{n}": n for n in range(50_000)}})
    begin = time.perf_counter()
    with pytest.raises(RequestError) as caught:
        parse(ChatRequest, body.encode())
    assert time.perf_counter() - begin < 5
    assert len(str(caught.value)) < 1000


def test_null_is_the_default_and_numbers_are_what_was_written() -> None:
    fields = ("n", "stop", "seed", "top_p", "tools", "stream", "logprobs", "response_format")
    ask = parse(ChatRequest, json.dumps(CHAT | dict.fromkeys(fields)).encode())
    assert (ask.choices, ask.limit(), ask.listed(), ask.exact) == (1, 256, None, False)
    body = json.dumps(TEXT | {"temperature": 0.1, "presence_penalty": -2, "n": 3}).encode()
    sampling = parse(CompletionRequest, body).sampling(seed=5)
    assert (sampling.temperature, sampling.presence_penalty) == (Decimal("0.1"), Decimal(-2))
    assert (sampling.seed, sampling.max_tokens) == (5, 16)


def refused(kind: type[Any], body: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse(kind, json.dumps(body).encode())
    assert caught.value.param == field
    assert caught.value.status == 400
