"""What bytes tokens stand for: those that decoding joins to the same text."""

from __future__ import annotations

import json
import random

import pytest
from tokenizers import Tokenizer as Library

from registry.text.probe import TEXTS
from registry.text.token_bytes import token_bytes
from registry.text.tokenizer import Tokenizer
from tests.registry.text import published

BYTE_LEVEL = ("llama_3", "qwen_2", "gpt_2", "smollm_2")
SENTENCE_PIECE = ("llama_2", "tiny_llama")


def tokenizer(name: str) -> Tokenizer:
    return Tokenizer(published.data(published.ALL[name]), rows=None)


def test_rows_without_a_token_have_no_bytes() -> None:
    found = token_bytes(tokenizer("llama_3"), 300)
    assert len(found) == 300
    assert found[261:] == (b"",) * 39


@pytest.mark.parametrize("name", BYTE_LEVEL)
def test_the_bytes_of_any_tokens_decode_as_the_tokens_do(name: str) -> None:
    read = tokenizer(name)
    found, chance = token_bytes(read, 300), random.Random(3)
    plain = sorted(set(read.vocabulary().values()) - read.special_ids())
    assert {found[id] for id in plain} >= {bytes([byte]) for byte in range(256)}
    for _ in range(200):
        ids = [chance.choice(plain) for _ in range(chance.randrange(1, 12))]
        whole = b"".join(found[id] for id in ids)
        assert whole.decode(errors="replace") == read.decode(ids)


@pytest.mark.parametrize("name", (*BYTE_LEVEL, *SENTENCE_PIECE))
def test_the_bytes_of_a_text_s_tokens_are_the_text(name: str) -> None:
    read = tokenizer(name)
    for text in TEXTS:
        ids = read.encode(text, add_special=False)
        written = [id for id in ids if id not in read.special_ids()]
        whole = b"".join(token_bytes(read, 400)[id] for id in written).decode()
        # Sentencepiece puts a space before a text, and its decoder takes one away.
        assert (whole.removeprefix(" ") if name in SENTENCE_PIECE else whole) == read.decode(ids)


def test_word_pieces_begin_with_a_space_unless_they_go_on() -> None:
    read = tokenizer("bert")
    found = token_bytes(read, 10)
    assert b"".join(found[id] for id in read.encode("quicker fox", add_special=False)) == (
        b" quicker fox"
    )


def test_special_tokens_have_the_bytes_of_their_name_and_added_words_too() -> None:
    value = json.loads(json.dumps(published.ALL["qwen_2"]))
    value["added_tokens"].append(published.added("<tool é>", 261, special=False))
    read = Tokenizer(published.data(value), rows=None)
    found = token_bytes(read, 262)
    assert found[259] == b"<|endoftext|>"
    assert found[261] == "<tool é>".encode()
    assert read.decode([261]) == "<tool é>"
    assert read.special_ids() == {259, 260}


def test_the_kinds_of_the_decoder_s_steps_are_the_file_s() -> None:
    assert tokenizer("llama_2").decoder_steps() == ("Replace", "ByteFallback", "Fuse", "Strip")
    assert tokenizer("llama_3").decoder_steps() == ("ByteLevel",)
    plain = published.ALL["llama_3"] | {"decoder": None}
    assert Tokenizer(published.data(plain), rows=None).decoder_steps() == ()
    assert Library.from_str(json.dumps(plain)).decoder is None
