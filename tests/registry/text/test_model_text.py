"""A model's small files together: one template, and special tokens that all files agree on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from registry.errors import FileRefusedError
from registry.text.model_text import check_one_template, read_model_text
from tests.registry.text import published

TEMPLATE = "{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
ABOUT = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}}
CONFIG = {"vocab_size": 300, "eos_token_id": 259, "bos_token_id": 259}
GENERATION = {"eos_token_id": [260, 259], "pad_token_id": 259}


def files(**changes: Any) -> dict[str, bytes]:
    """The files of a Qwen2 model; keys of `changes` are names such as `config`."""
    values = {
        "tokenizer.json": published.qwen_2(),
        "tokenizer_config.json": {**ABOUT, **changes.get("about", {})},
        "config.json": {**CONFIG, **changes.get("config", {})},
        "generation_config.json": {**GENERATION, **changes.get("generation", {})},
    }
    found = {path: json.dumps(value).encode() for path, value in values.items()}
    return {**found, "chat_template.jinja": TEMPLATE.encode(), **changes.get("raw", {})}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"about": {"eos_token": "<|end|>"}},
            "tokenizer_config.json: its eos_token '<|end|>' is no",
        ),
        ({"about": {"bos_token": {"content": "<s>"}}}, "its bos_token '<s>' is no token"),
        ({"about": {"mask_token": "[MASK]"}}, "its mask_token '.MASK.' is no token"),
        ({"about": {"unk_token": 7}}, "its unk_token is 7, not a text"),
        ({"about": {"unk_token": {"content": ["a"]}}}, "not a text"),
        ({"about": {"added_tokens_decoder": {"5": {"content": "<|im_end|>"}}}}, "as token '5'"),
        ({"about": {"added_tokens_decoder": {"260": {"content": "<|x|>"}}}}, "lists '<|x|>'"),
        ({"about": {"added_tokens_decoder": ["<|im_end|>"]}}, "added_tokens_decoder is no object"),
        ({"config": {"eos_token_id": 299}}, "config.json: eos_token_id is 299, which is no token"),
        ({"config": {"bos_token_id": -1}}, "config.json: bos_token_id is -1, which is no token"),
        ({"config": {"bos_token_id": 2**40}}, "bos_token_id is 1099511627776, which is no token"),
        ({"config": {"pad_token_id": "259"}}, "pad_token_id is '259', which is no token"),
        ({"generation": {"eos_token_id": [260, True]}}, "eos_token_id is True, which is no token"),
        (
            {"generation": {"eos_token_id": 259}},
            "generation_config.json: eos_token_id is .259., but tokenizer_config.json names "
            "'<|im_end|>', which is 260",
        ),
        (
            {"generation": {"eos_token_id": None}},
            "^config.json: eos_token_id is .259., but tokenizer_config.json names",
        ),
        ({"about": {"bos_token": "<|im_end|>"}}, "config.json: bos_token_id is .259., but"),
        (
            {"about": {"chat_template": TEMPLATE}},
            "tokenizer_config.json: has a chat template, and so",
        ),
        (
            {"about": {"chat_template": "other"}},
            "tokenizer_config.json: has a chat template, and so",
        ),
        (
            {"about": {"chat_template": [{"name": "default", "template": TEMPLATE}]}},
            "tokenizer_config.json: has several chat templates",
        ),
        ({"about": {"chat_template": {"default": TEMPLATE}}}, "has several chat templates"),
        ({"about": {"auto_map": {"AutoTokenizer": "x.Tokenizer"}}}, "nothing executable"),
        ({"raw": {"chat_template.jinja": b"\xff"}}, "chat_template.jinja: is not UTF-8"),
        ({"raw": {"chat_template.jinja": b"{% for %}"}}, "chat_template.jinja: is refused"),
        ({"raw": {"tokenizer_config.json": b"{}{}"}}, "tokenizer_config.json: is not JSON"),
        (
            {"raw": {"generation_config.json": b"[]"}},
            "generation_config.json: is not a JSON object",
        ),
    ],
    ids=lambda value: str(value)[:70],
)
def test_files_that_do_not_agree_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FileRefusedError, match=message.replace("|", r"\|")):
        read_model_text(files(**changes), rows=300)


def test_a_model_without_a_tokenizer_is_refused() -> None:
    found = files()
    del found["tokenizer.json"]
    with pytest.raises(FileRefusedError, match=r"tokenizer\.json: is missing"):
        read_model_text(found, rows=300)


@pytest.mark.parametrize(
    "path",
    [
        "additional_chat_templates/tool_use.jinja",
        "Chat_Template.jinja",
        "chat_template.json",
        "sub/chat_template.jinja",
        "chat_template_tools.json",
        "old.jinja2",
    ],
)
def test_a_second_file_that_may_be_a_template_is_refused(path: str) -> None:
    check_one_template(["chat_template.jinja", "config.json", "tokenizer.json"])
    with pytest.raises(FileRefusedError, match="may be a second chat template"):
        check_one_template(["chat_template.jinja", path])


def test_a_template_renders_with_the_special_tokens_of_its_own_file() -> None:
    for found in (files(), files(about={"chat_template": TEMPLATE})):
        if b"chat_template" in found["tokenizer_config.json"]:
            del found["chat_template.jinja"]
        text = read_model_text(found, rows=300)
        assert text.template is not None
        assert text.template.render([{"role": "user", "content": "a"}]) == "a<|im_end|>"
    # An error names the file that the template stands in.
    assert text.template.path == "tokenizer_config.json"


def test_small_files_may_be_missing_and_say_nothing() -> None:
    tokenizer = json.dumps(published.qwen_2()).encode()
    text = read_model_text({"tokenizer.json": tokenizer}, rows=None)
    assert text.template is None
    assert text.tokenizer.special_tokens == ("<|endoftext|>", "<|im_end|>")
    # Old files write that there is no padding as -1.
    read_model_text(files(config={"pad_token_id": -1}), rows=300)
