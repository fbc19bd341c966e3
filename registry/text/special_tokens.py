"""The special tokens that a model's small files name, and whether its tokenizer agrees.

A file that calls another token the beginning or the end than the tokenizer has would change what a
model reads, or when it stops, without a change to its weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from registry.errors import FileRefusedError
from registry.text.tokenizer import Tokenizer

CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
# Those that templates may name.
_IN_TEMPLATES: Final = ("bos_token", "eos_token", "pad_token", "unk_token")
_NAMES: Final = (*_IN_TEMPLATES, "cls_token", "sep_token", "mask_token")
# Of these the ids must be those of the names; padding is never added here.
_AGREE: Final = ("bos_token", "eos_token")
# How older files write that there is no padding.
_NO_PADDING: Final = -1


def template_tokens(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the special tokens of tokenizer_config.json that templates may name."""
    return {name: text for name, text in _named(about) if name in _IN_TEMPLATES}


def check_special_tokens(
    tokenizer: Tokenizer, about: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]
) -> None:
    """Compare what tokenizer_config.json (`about`) and the configurations name with the tokenizer.

    `files` holds config.json and generation_config.json, parsed, where the model has them. Raises
    `FileRefusedError` for a token or id that the tokenizer does not know, for one that has
    another id there, and for a beginning or an end that two files see differently.
    """
    for name, text in _named(about):
        if tokenizer.find(text) is None:
            raise FileRefusedError(
                TOKENIZER_CONFIG, f"its {name} {text!r:.60} is no token of {tokenizer.path}"
            )
    _check_listed(tokenizer, about)
    for path, value in files.items():
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            for id in _ids(value, name):
                if id == _NO_PADDING and name == "pad_token_id":
                    continue
                if type(id) is not int or id < 0 or not tokenizer.knows(id):
                    raise FileRefusedError(path, f"{name} is {id!r:.60}, which is no token")
    _check_agreement(tokenizer, about, files)


def _named(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _NAMES:
        token = about.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if token is None:
            continue
        if not isinstance(token, str):
            raise FileRefusedError(TOKENIZER_CONFIG, f"its {name} is {token!r:.60}, not a text")
        yield name, token


def _check_listed(tokenizer: Tokenizer, about: Mapping[str, Any]) -> None:
    listed = about.get("added_tokens_decoder") or {}
    if not isinstance(listed, dict):
        raise FileRefusedError(TOKENIZER_CONFIG, "its added_tokens_decoder is no object")
    for number, token in listed.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or str(tokenizer.find(content)) != number:
            raise FileRefusedError(
                TOKENIZER_CONFIG,
                f"lists {content!r:.60} as token {number!r:.20}, {tokenizer.path} does not",
            )


def _check_agreement(
    tokenizer: Tokenizer, about: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]
) -> None:
    for name, text in _named(about):
        if name not in _AGREE:
            continue
        # What generation_config.json says, counts; config.json speaks where it is silent.
        for path in (GENERATION, CONFIG):
            ids = list(_ids(files.get(path, {}), f"{name}_id"))
            if ids and tokenizer.find(text) not in ids:
                raise FileRefusedError(
                    path,
                    f"{name}_id is {ids!r:.60}, but {TOKENIZER_CONFIG} names {text!r:.60}, which "
                    f"is {tokenizer.find(text)}",
                )
            if ids:
                break


def _ids(value: Mapping[str, Any], name: str) -> Iterator[Any]:
    ids = value.get(name)
    yield from ids if isinstance(ids, list) else [] if ids is None else [ids]
