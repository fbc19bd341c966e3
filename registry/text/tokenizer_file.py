"""tokenizer.json, read as hostile data before the library that runs it sees it.

The library trusts its file: it drops what it does not know, renumbers tokens that clash and fails
in native code. So all of the file is checked here first, and what passes means the same to both.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any, Final, NoReturn

from registry.errors import FileRefusedError
from registry.text.strict_json import parse_object
from registry.text.tokenizer_steps import (
    PATH,
    check_decoder,
    check_normalizer,
    check_post_processor,
    check_pre_tokenizer,
)

# Llama 3's takes 17 MB. Read as JSON, a hostile file takes some twenty times its size in memory.
MAX_BYTES: Final = 32 * 1024 * 1024
# The largest published vocabularies have some 260 thousand tokens, some 600 thousand merges, and
# six thousand added tokens.
MAX_TOKENS: Final = 1_000_000
MAX_MERGES: Final = 2_000_000
MAX_ADDED: Final = 16_384
# Runs of 128 spaces are tokens of some vocabularies; in letters of bytes they take 128 characters.
MAX_TOKEN_CHARACTERS: Final = 512
# BERT's is 100. A longer word is one unknown token, a shorter one is tried piece by piece.
_MAX_WORD: Final = 200
_FIELDS: Final = frozenset(
    {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"}
    | {"post_processor", "decoder", "model"}
)
_ADDED_FLAGS: Final = ("single_word", "lstrip", "rstrip", "normalized", "special")
_BPE_FIELDS: Final = frozenset(
    {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"}
    | {"fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}
)
_WORDPIECE_FIELDS: Final = frozenset(
    {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}
)


def check_tokenizer_file(data: bytes) -> dict[str, int]:
    """Return all tokens of a tokenizer.json with their ids, added ones included.

    Raises `FileRefusedError` that names the rule: a file too large; JSON that could be read in two
    ways; fields, models or steps that are not known; two tokens of one id; an added token that
    gives another id to a token of the vocabulary; merges of unknown tokens; dropout.
    """
    value = parse_object(data, PATH, max_bytes=MAX_BYTES, forbidden=frozenset())
    _check_keys(value, _FIELDS, "the file")
    if value.get("version") != "1.0":
        _refuse("is not of the version 1.0")
    model = value.get("model")
    if not isinstance(model, dict):
        _refuse("has no model")
    vocabulary = _read_vocabulary(model.get("vocab"))
    # Old files do not name the type; GPT-2's is one.
    match model.get("type", "BPE" if "merges" in model else "WordPiece"):
        case "BPE":
            _check_bpe(model, vocabulary)
        case "WordPiece":
            _check_wordpiece(model, vocabulary)
        case kind:
            _refuse(f"its model is {kind!r:.40}, not BPE or WordPiece")
    tokens = _with_added(vocabulary, value.get("added_tokens", []))
    check_normalizer(value.get("normalizer"))
    check_pre_tokenizer(value.get("pre_tokenizer"))
    check_post_processor(value.get("post_processor"), tokens.get)
    check_decoder(value.get("decoder"))
    return tokens


def _read_vocabulary(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not 0 < len(value) <= MAX_TOKENS:
        _refuse(f"its vocabulary is no object of 1 to {MAX_TOKENS} tokens")
    if not all(type(id) is int and 0 <= id < MAX_TOKENS for id in value.values()):
        _refuse(f"its vocabulary has an id that is not below {MAX_TOKENS}")
    if max(map(len, value)) > MAX_TOKEN_CHARACTERS:
        _refuse(f"its vocabulary has a token of more than {MAX_TOKEN_CHARACTERS} characters")
    if len(set(value.values())) != len(value):
        _refuse("two tokens of its vocabulary have one id")
    return value


def _with_added(vocabulary: dict[str, int], added: Any) -> dict[str, int]:
    if not isinstance(added, list) or len(added) > MAX_ADDED:
        _refuse(f"its added_tokens are no list of up to {MAX_ADDED}")
    tokens = dict(vocabulary)
    ids = set(vocabulary.values())
    seen = set()
    for entry in added:
        content, id = _read_added(entry)
        known = vocabulary.get(content)
        if known is not None and known != id:
            _refuse(f"its added token {content!r:.60} has the id {id}, in the vocabulary {known}")
        if content in seen or (known is None and id in ids):
            _refuse(f"its added token {content!r:.60} stands there twice, or its id {id} does")
        seen.add(content)
        ids.add(id)
        tokens[content] = id
    return tokens


def _read_added(entry: Any) -> tuple[str, int]:
    if not isinstance(entry, dict) or entry.keys() != {"id", "content", *_ADDED_FLAGS}:
        _refuse("has an added token with other fields than published ones have")
    content, id = entry["content"], entry["id"]
    if not isinstance(content, str) or not 0 < len(content) <= MAX_TOKEN_CHARACTERS:
        _refuse(f"has an added token that is not 1 to {MAX_TOKEN_CHARACTERS} characters")
    if type(id) is not int or not 0 <= id < MAX_TOKENS:
        _refuse(f"its added token {content!r:.60} has the id {id!r:.20}")
    if not all(isinstance(entry[flag], bool) for flag in _ADDED_FLAGS):
        _refuse(f"its added token {content!r:.60} has a flag that is not true or false")
    return content, id


def _check_bpe(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> None:
    _check_keys(model, _BPE_FIELDS, "its model")
    if model.get("dropout") not in (None, 0):
        _refuse("its model has dropout: one text would have many encodings")
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name) not in (None, ""):
            _refuse(f"its model has {name} = {model[name]!r:.40}, which is not known")
    for name in ("fuse_unk", "byte_fallback", "ignore_merges"):
        if not isinstance(model.get(name, False), bool):
            _refuse(f"its model has {name} that is not true or false")
    _check_unknown(model, vocabulary, needed=False)
    merges = model.get("merges")
    if not isinstance(merges, list) or len(merges) > MAX_MERGES:
        _refuse(f"its merges are no list of up to {MAX_MERGES}")
    pairs = [_read_merge(merge) for merge in merges]
    # All at once is twice as fast; the one that is wrong is looked for only where there is one.
    if not {left + right for left, right in pairs} | set(chain(*pairs)) <= vocabulary.keys():
        for left, right in pairs:
            if not {left, right, left + right} <= vocabulary.keys():
                _refuse(f"merges {left!r:.60} and {right!r:.60}, not all of which are tokens")
    if len(set(pairs)) != len(pairs):
        _refuse("merges one pair at two ranks")


def _read_merge(merge: Any) -> tuple[str, str]:
    # Older files write "a b", newer ones ["a", "b"].
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if type(parts) is list and len(parts) == 2:
        left, right = parts
        if type(left) is str and type(right) is str:
            return left, right
    _refuse(f"has a merge that is no pair: {merge!r:.80}")


def _check_wordpiece(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> None:
    _check_keys(model, _WORDPIECE_FIELDS, "its model")
    if model.get("continuing_subword_prefix", "##") != "##":
        _refuse("its model marks parts of words otherwise than with ##")
    longest = model.get("max_input_chars_per_word", 100)
    if type(longest) is not int or not 0 < longest <= _MAX_WORD:
        _refuse(f"its max_input_chars_per_word is {longest!r:.20}, not 1 to {_MAX_WORD}")
    _check_unknown(model, vocabulary, needed=True)


def _check_unknown(
    model: Mapping[str, Any], vocabulary: Mapping[str, int], *, needed: bool
) -> None:
    token = model.get("unk_token")
    if token is None and not needed:
        return
    if not isinstance(token, str) or token not in vocabulary:
        _refuse(f"its unk_token {token!r:.60} is not in the vocabulary")


def _check_keys(value: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    for key in sorted(value.keys() - known):
        _refuse(f"{what} has an unknown field {key!r:.60}")


def _refuse(rule: str) -> NoReturn:
    raise FileRefusedError(PATH, rule)
