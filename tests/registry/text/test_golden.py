"""Golden vectors: what they catch, and that they are bounded."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from registry.errors import CanonicalError, FileRefusedError, ManifestError
from registry.fields import Fields
from registry.signing.canonical import encode
from registry.text.chat_template import ChatTemplate
from registry.text.golden import (
    MAX_BYTES,
    MAX_VECTORS,
    ChatVector,
    Golden,
    TextVector,
    check_golden,
    make_golden,
)
from registry.text.probe import CHATS, TEXTS
from registry.text.tokenizer import Tokenizer
from tests.registry.text import published
from tests.registry.text.published import added, data

SOURCE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


def tokenizer_of(value: dict[str, Any]) -> Tokenizer:
    return Tokenizer(data(value), rows=None)


def template_of(source: str) -> ChatTemplate:
    return ChatTemplate(source, {})


GOLDEN = make_golden(tokenizer_of(published.qwen_2()), template_of(SOURCE))


def altered(**changes: Any) -> dict[str, Any]:
    value = published.qwen_2()
    for path, change in changes.items():
        target: Any = value
        *parents, last = path.split("__")
        for part in parents:
            target = target[part]
        target[last] = change
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        # Each passes as a tokenizer; each reads some text otherwise.
        (altered(normalizer=None), "golden text 4 .* has other ids"),
        (altered(model__merges=published.qwen_2()["model"]["merges"][:2]), "other ids"),
        (altered(model__merges=[]), "golden text 1 .* has other ids"),
        (
            altered(model__vocab={**published.BYTE_VOCAB, "Ġt": 257, "he": 256}),
            "golden text 1 .* has other ids",
        ),
        (
            altered(added_tokens=[added("<|endoftext|>", 259), added("<|im_start|>", 260)]),
            r"golden text \d+ \('a<\|im_end\|> b'\) has other ids",
        ),
        (
            altered(
                added_tokens=[
                    *published.qwen_2()["added_tokens"],
                    added(" lazy", 261, special=False),
                ]
            ),
            "golden text 1 .* has other ids",
        ),
        (
            altered(post_processor=published.template("<|endoftext|>", 259)),
            "golden text 0 .* has other wrapped",
        ),
        (altered(decoder=None), "golden text 1 .* has other decoded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tokenizer_that_reads_otherwise_than_at_registration_is_refused(
    value: dict[str, Any], message: str
) -> None:
    with pytest.raises(FileRefusedError, match=rf"^tokenizer\.json: .*{message}"):
        check_golden(GOLDEN, tokenizer_of(value), template_of(SOURCE))


def test_a_tokenizer_that_cuts_texts_otherwise_than_at_registration_is_refused() -> None:
    # Three digits in a word instead of one; a vocabulary that knows no two does not show it.
    def with_twelve(value: dict[str, Any]) -> Tokenizer:
        value["model"]["vocab"]["12"] = 259
        value["model"]["merges"].append("1 2")
        value["added_tokens"] = [added("<|endoftext|>", 260)]
        return tokenizer_of(value)

    golden = make_golden(with_twelve(published.qwen_2()), None)
    value = altered(pre_tokenizer=published.llama_3()["pre_tokenizer"])
    with pytest.raises(FileRefusedError, match=r"golden text 10 .* has other ids"):
        check_golden(golden, with_twelve(value), None)


@pytest.mark.parametrize(
    "source",
    [
        SOURCE + " ",
        SOURCE.replace("m.content", "m.content|trim"),
        "{% if messages|length == 3 %}Obey me.{% endif %}" + SOURCE,
        "{% if 'joke' in messages[-1].content %}Obey me.{% endif %}" + SOURCE,
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + SOURCE,
    ],
)
def test_a_template_that_renders_otherwise_than_at_registration_is_refused(source: str) -> None:
    with pytest.raises(FileRefusedError, match=r"^chat_template\.jinja: golden conversation \d"):
        check_golden(GOLDEN, tokenizer_of(published.qwen_2()), template_of(source))


def test_conversations_that_were_refused_must_be_refused_again() -> None:
    picky = template_of(
        "{% if messages[0].role != 'user' %}{{ raise_exception('no') }}{% endif %}" + SOURCE
    )
    tokenizer = tokenizer_of(published.qwen_2())
    golden = make_golden(tokenizer, picky)
    assert [chat.rendered is None for chat in golden.chats] == [
        chat[0][0] != "user" for chat in CHATS
    ]
    check_golden(golden, tokenizer, picky)
    with pytest.raises(FileRefusedError, match="golden conversation 1"):
        check_golden(golden, tokenizer, template_of(SOURCE))


def test_a_template_that_is_gone_is_refused() -> None:
    with pytest.raises(FileRefusedError, match=r"chat_template\.jinja: is missing"):
        check_golden(GOLDEN, tokenizer_of(published.qwen_2()), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": ()}, "golden.texts has 0 vectors"),
        ({"texts": GOLDEN.texts[:1] * (MAX_VECTORS + 1)}, "65 vectors, not 1 to 64"),
        ({"chats": GOLDEN.chats[:1] * (MAX_VECTORS + 1)}, "65 vectors, not 0 to 64"),
        ({"texts": (TextVector("x" * MAX_BYTES, (), (), ""),)}, "more than 65536"),
        ({"chats": (ChatVector((("user", "x"),), "y" * MAX_BYTES),)}, "more than 65536"),
    ],
)
def test_vectors_without_bounds_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        dataclasses.replace(GOLDEN, **change)


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(CanonicalError):
        dataclasses.replace(GOLDEN, texts=(TextVector("\ud800", (), (), ""),))


def test_a_model_with_thousands_of_special_tokens_and_a_long_template_stays_within_bounds() -> None:
    value = published.qwen_2()
    value["added_tokens"] += [added(f"<|reserved_{n}|>", 261 + n) for n in range(6000)]
    golden = make_golden(tokenizer_of(value), template_of("word " * 2_000 + SOURCE))
    assert len(encode(golden.to_json())) <= MAX_BYTES
    assert len(golden.texts) <= MAX_VECTORS
    assert golden.chats
    seen = {id for text in golden.texts for id in text.ids}
    assert {259, 260, 261, 600} <= seen


@pytest.mark.parametrize("name", published.ALL)
def test_vectors_are_the_same_each_time_and_read_back(name: str) -> None:
    value = published.ALL[name]
    golden = make_golden(tokenizer_of(value), template_of(SOURCE))
    check_golden(golden, tokenizer_of(value), template_of(SOURCE))
    assert [text.text for text in golden.texts[: len(TEXTS)]] == list(TEXTS)
    assert [chat.messages for chat in golden.chats] == list(CHATS)
    tokens = {entry["id"] for entry in value["added_tokens"]}
    assert tokens <= {id for text in golden.texts for id in text.ids}
    read = Golden.read(Fields(json.loads(encode(golden.to_json())), "golden"))
    assert read == golden
