"""Tool calls in an answer's text: what is not exactly one stays text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.api.tool_calls import HERMES, LLAMA, Call, Reader, format_of, reader_of
from registry.text.chat_template import ChatTemplate
from tests.inference import tiny_models
from tests.registry.text.test_template_tools import LLAMA as LLAMA_TEMPLATE
from tests.registry.text.test_template_tools import QWEN as QWEN_TEMPLATE

NAMES = {"look", "add"}
GOOD = '<tool_call>\n{"name": "look", "arguments": {"at": "é"}}\n</tool_call>'
LLAMA_GOOD = '{"name": "add", "parameters": {"a": 1}}'


def read(reader: Reader, text: str, size: int) -> tuple[str, list[Call]]:
    """Read a text in pieces of some characters."""
    said = [reader.push(text[at : at + size]) for at in range(0, len(text), size)]
    said.append(reader.finish())
    return "".join(s.text for s in said), [call for s in said for call in s.calls]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "nothing of that kind",
        '<tool_call>{"name": "look", "arguments": {}}',
        "<tool_call></tool_call>",
        '<tool_call>{"name": "stranger", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "look"}</tool_call>',
        '<tool_call>{"name": "look", "arguments": "{}"}</tool_call>',
        '<tool_call>{"name": "look", "arguments": {}, "more": 1}</tool_call>',
        '<tool_call>{"name": "look", "name": "add", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "look", "arguments": {"a": NaN}}</tool_call>',
        '<tool_call>{"name": ["look"], "arguments": {}}</tool_call>',
        "<tool_call>" + "[" * 5000 + "</tool_call>",
        "  spaces, a < b, and <tool",
        "ends in white space \n",
    ],
)
def test_what_is_no_call_stays_the_text_it_is(text: str, size: int) -> None:
    assert read(reader_of(HERMES, NAMES), text, size) == (text, [])


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        '{"name": "stranger", "parameters": {}}',
        '{"name": "add", "parameters": {}} and text',
        '{"name": "add"',
        "  { not json",
        "<|python_tag|>print()",
        "<|pyt",
        "",
    ],
)
def test_an_answer_that_is_not_all_calls_stays_the_text_it_is(text: str, size: int) -> None:
    assert read(reader_of(LLAMA, NAMES), text, size) == (text, [])


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_calls_between_tags_are_found_whatever_the_pieces(size: int) -> None:
    second = '<tool_call>{"name": "add", "arguments": {}}</tool_call>'
    text, calls = read(reader_of(HERMES, NAMES), f"I look.\n{GOOD}\n{second}\n", size)
    assert text == "I look."
    assert [call.name for call in calls] == ["look", "add"]
    assert json.loads(calls[0].arguments) == {"at": "é"}
    assert len({call.id for call in calls}) == 2


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("begin", ["", "\n", "<|python_tag|>"])
def test_an_answer_of_calls_alone_is_found(begin: str, size: int) -> None:
    text, calls = read(reader_of(LLAMA, NAMES), f"{begin}{LLAMA_GOOD}; {LLAMA_GOOD}", size)
    assert (text, [call.name for call in calls]) == ("", ["add", "add"])
    assert calls[0].arguments == '{"a": 1}'


@given(
    parts=st.lists(
        st.sampled_from(
            ["<tool_call>", "</tool_call>", GOOD, "{", " ", "\n", "a", "<", "<tool_", "}"]
        ),
        max_size=8,
    ),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_how_a_text_is_cut_into_pieces_changes_nothing(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    whole_text, whole_calls = read(reader_of(HERMES, NAMES), text, len(text) + 1)
    reader, begin, said = reader_of(HERMES, NAMES), 0, []
    for end in [*sorted(cut for cut in cuts if cut < len(text)), len(text)]:
        said.append(reader.push(text[begin:end]))
        begin = end
    said.append(reader.finish())
    assert "".join(s.text for s in said) == whole_text
    assert [c.arguments for s in said for c in s.calls] == [c.arguments for c in whole_calls]


def test_text_before_a_call_is_not_held_back() -> None:
    reader = reader_of(HERMES, NAMES)
    assert reader.push("I look <tool").text == "I look"
    assert reader.push("box").text == " <toolbox"
    assert reader.push(" <tool_call>{").text == ""


@pytest.mark.parametrize(
    ("source", "form"),
    [
        (tiny_models.TEMPLATE, None),
        (tiny_models.TOOL_TEMPLATE, HERMES),
        (QWEN_TEMPLATE, HERMES),
        (LLAMA_TEMPLATE, LLAMA),
        ('{{ tools | tojson }}{"name": …, "parameters": …}', LLAMA),
        ("{{ tools | tojson }}", None),
        ("{{ tools | tojson }}<tool_call><function=f> arguments", None),
        ('{% set tools = [] %}<tool_call>{"arguments"', None),
    ],
)
def test_the_format_is_the_one_the_template_teaches(source: str, form: str | None) -> None:
    assert format_of(ChatTemplate(source, {})) == form
