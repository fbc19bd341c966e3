"""Grammars: hostile ones are refused in good time, others are followed token by token."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import numpy as np
import pytest

from inference.engine.grammar import (
    MAX_SCHEMA_BYTES,
    Framed,
    Grammar,
    GrammarConstraint,
    Vocabulary,
    vocabulary_of,
)
from inference.errors import GenerationError, RequestError
from registry.text.tokenizer import Tokenizer
from tests.inference import tiny_models

# More rows than tokens, as models have whose tables are padded.
ROWS = tiny_models.VOCABULARY + 40
ENDS = frozenset({256, 259})
# Seconds; what a caller may make the node work for one request, with room for a busy machine.
PATIENCE_S = 3
FLAG = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    data = tiny_models._tokenizer(wrapped=False).to_str().encode()
    return vocabulary_of(Tokenizer(data, rows=ROWS), rows=ROWS, ends=ENDS)


def of(vocabulary: Vocabulary, schema: Any) -> Grammar:
    return Grammar.of_schema(vocabulary, schema, field="response_format")


def spoken(state: GrammarConstraint, text: str, ids: dict[bytes, int]) -> None:
    for byte in text.encode():
        token = ids[bytes([byte])]
        assert state.allowed()[token], text
        state.accept(token)


@pytest.fixture(scope="module")
def ids(vocabulary: Vocabulary) -> dict[bytes, int]:
    return {data: id for id, data in enumerate(vocabulary.tokens) if data}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


REFUSED = {
    "no type": {"type": "nothing"},
    "unknown rule": {"type": "object", "unevaluatedProperties": False},
    "another's file": {"$ref": "https://example.org/schema.json"},
    "itself": {"$ref": "#"},
    "a circle": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "impossible": {"type": "object", "required": ["a"], "properties": {"a": False}},
    "deep": nested(40),
    "large": {"enum": ["x" * 30 + str(n) for n in range(4000)]},
    "products": {
        "allOf": [
            {"anyOf": [{"properties": {f"a{i}{j}": {"type": "integer"}}} for j in range(6)]}
            for i in range(8)
        ]
    },
    "no pattern": {"type": "string", "pattern": "("},
    "no number": {"type": "number", "minimum": float("nan")},
    "no JSON": {"const": {1, 2}},
    "half a character": {"const": "\ud800"},
    "leniency": {"type": "object", "contains": 1, "x-guidance": {"lenient": True}},
}
COSTLY = {
    "repeats of repeats": {"type": "string", "pattern": "^(([a-z]{1,99}){1,99}){1,99}$"},
    "many states": {"type": "string", "pattern": "[ab]*a[ab]{18}$"},
    "ambiguity": {"type": "string", "pattern": "^(a|aa|aaa)*(a|b){5000}(.*x){50}$"},
    "many items": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    "many letters": {"type": "string", "minLength": 10**9},
    "many ways": {
        "anyOf": [
            {"type": "array", "items": {"anyOf": [{"const": n}, {"type": "string"}]}}
            for n in range(800)
        ]
    },
}


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_a_schema_that_cannot_be_followed_is_refused_by_its_field(
    vocabulary: Vocabulary, schema: Any
) -> None:
    begin = time.perf_counter()
    with pytest.raises(RequestError) as caught:
        of(vocabulary, schema)
    assert caught.value.param == "response_format"
    assert len(caught.value.message) < 400
    assert time.perf_counter() - begin < PATIENCE_S


@pytest.mark.parametrize("schema", COSTLY.values(), ids=COSTLY)
def test_a_costly_schema_takes_little_time_whether_it_is_refused_or_followed(
    vocabulary: Vocabulary, schema: Any
) -> None:
    begin = time.perf_counter()
    try:
        state = of(vocabulary, schema).start()
        for _ in range(64):
            allowed = np.flatnonzero(state.allowed())
            state.accept(int(allowed[len(allowed) // 2]))
    except (RequestError, GenerationError):
        pass
    assert time.perf_counter() - begin < PATIENCE_S


def test_frames_of_too_many_bytes_together_are_refused(vocabulary: Vocabulary) -> None:
    way = Framed("a", {"enum": ["x" * 1000]}, "b")
    with pytest.raises(RequestError, match=f"more than {MAX_SCHEMA_BYTES}"):
        Grammar.of_framed(vocabulary, [way] * 70, field="tools")


def test_a_model_without_an_end_cannot_follow_a_grammar() -> None:
    data = tiny_models._tokenizer(wrapped=False).to_str().encode()
    with pytest.raises(RequestError, match="no end token"):
        Vocabulary(Tokenizer(data, rows=ROWS), rows=ROWS, ends=frozenset())


def test_a_token_that_may_not_come_is_refused(
    vocabulary: Vocabulary, ids: dict[bytes, int]
) -> None:
    for wrong in (ids[b"x"], 256, 257, ROWS - 1):
        with pytest.raises(GenerationError):
            of(vocabulary, FLAG).start().accept(wrong)


def test_nothing_comes_after_the_end(vocabulary: Vocabulary, ids: dict[bytes, int]) -> None:
    state = of(vocabulary, FLAG).start()
    spoken(state, '{"ok": true}', ids)
    state.accept(259)
    with pytest.raises(GenerationError):
        state.accept(256)


def test_the_end_may_come_exactly_when_the_grammar_may_end(
    vocabulary: Vocabulary, ids: dict[bytes, int]
) -> None:
    state = of(vocabulary, {"type": "integer"}).start()
    assert not state.allowed()[[256, 259]].any()
    spoken(state, "-", ids)
    assert not state.allowed()[[256, 259]].any()
    spoken(state, "12", ids)
    allowed = state.allowed()
    assert allowed[[256, 259]].all()
    assert allowed[ids[b"3"]]
    whole = of(vocabulary, FLAG).start()
    spoken(whole, '{"ok": false}', ids)
    assert set(np.flatnonzero(whole.allowed())) == ENDS


def test_special_tokens_and_padding_are_no_text_of_a_grammar(
    vocabulary: Vocabulary, ids: dict[bytes, int]
) -> None:
    state = of(vocabulary, {"type": "string"}).start()
    spoken(state, '"a<|end', ids)
    allowed = state.allowed()
    assert allowed.shape == (ROWS,)
    assert not allowed[256:].any()
    assert allowed[ids[b"x"]]


def test_whatever_is_chosen_of_what_may_come_follows_the_schema(vocabulary: Vocabulary) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 5},
            "sizes": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        },
        "required": ["name", "sizes"],
        "additionalProperties": False,
    }
    grammar, chance = of(vocabulary, schema), random.Random(5)
    for _ in range(10):
        state, made = grammar.start(), b""
        while len(made) < 2000:
            token = int(chance.choice(np.flatnonzero(state.allowed()).tolist()))
            state.accept(token)
            if token in ENDS:
                break
            made += vocabulary.tokens[token]
        said = json.loads(made)
        assert said.keys() == {"name", "sizes"}
        assert len(said["name"]) <= 5
        assert len(said["sizes"]) <= 3


def test_answers_do_not_share_a_state(vocabulary: Vocabulary, ids: dict[bytes, int]) -> None:
    grammar = of(vocabulary, FLAG)
    first, second = grammar.start(), grammar.start()
    spoken(first, '{"ok"', ids)
    spoken(second, "{", ids)
    assert first.allowed()[ids[b":"]]
    assert not second.allowed()[ids[b":"]]


def test_framed_ways_have_their_own_definitions(
    vocabulary: Vocabulary, ids: dict[bytes, int]
) -> None:
    def way(name: str, value: str) -> Framed:
        schema = {"$defs": {"v": {"const": value}}, "$ref": "#/$defs/v"}
        return Framed(f'<call "{name}">\n', schema, "</call>")

    grammar = Grammar.of_framed(vocabulary, [way("one", "a"), way("two", "b")], field="tools")
    for text in ('<call "one">\n"a"</call>', '<call "two">\n"b"</call>'):
        state = grammar.start()
        spoken(state, text, ids)
        assert set(np.flatnonzero(state.allowed())) == ENDS
    state = grammar.start()
    spoken(state, '<call "two">\n"', ids)
    assert not state.allowed()[ids[b"a"]]
