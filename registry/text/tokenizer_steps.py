"""The steps of a tokenizer around its model: which of them may be, and in which form.

`tokenizers` can do much more to a text than published models ask for: rewrite it, drop parts of it,
run any regular expression over it. Only the steps of Llama, Qwen2, GPT-2 and BERT tokenizers are
known here, with their fields and the values these have; whatever else a file has is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeAlias

from registry.errors import FileRefusedError
from registry.text.split_patterns import KNOWN

PATH: Final = "tokenizer.json"
# Published tokenizers chain two to four steps.
_MAX_STEPS: Final = 8
# Token types: first and second text of a pair.
_TYPE_IDS: Final = (0, 1)
_SENTENCEPIECE_SPACE: Final = "\u2581"

Check: TypeAlias = Callable[[Any], bool]
Fields: TypeAlias = Mapping[str, Check]
# Returns the id of a token, or None where there is none.
Find: TypeAlias = Callable[[str], int | None]


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _one_of(*known: object) -> Check:
    # True equals 1 in Python, and is another thing in JSON.
    return lambda value: any(type(value) is type(each) and value == each for each in known)


def _is_known_pattern(value: Any) -> bool:
    return value in [{"Regex": pattern} for pattern in KNOWN]


_BYTE_LEVEL: Final[Fields] = {
    "add_prefix_space": _is_bool,
    "trim_offsets": _is_bool,
    "use_regex": _is_bool,
}
_METASPACE: Final[Fields] = {
    "replacement": _one_of(_SENTENCEPIECE_SPACE),
    "prepend_scheme": _one_of("always", "first", "never"),
    "add_prefix_space": _is_bool,
    "split": _is_bool,
}
_NORMALIZERS: Final[Mapping[str, Fields]] = {
    "BertNormalizer": {
        "clean_text": _is_bool,
        "handle_chinese_chars": _is_bool,
        "strip_accents": _one_of(None, False, True),
        "lowercase": _is_bool,
    },
    "NFC": {},
    # Together these write a text as sentencepiece does. No other text is replaced.
    "Prepend": {"prepend": _one_of(_SENTENCEPIECE_SPACE)},
    "Replace": {
        "pattern": _one_of({"String": " "}),
        "content": _one_of(_SENTENCEPIECE_SPACE),
    },
}
_PRE_TOKENIZERS: Final[Mapping[str, Fields]] = {
    "BertPreTokenizer": {},
    "ByteLevel": _BYTE_LEVEL,
    "Digits": {"individual_digits": _is_bool},
    "Metaspace": _METASPACE,
    # Isolated keeps all of the text; other behaviours can drop what a pattern finds.
    "Split": {
        "pattern": _is_known_pattern,
        "behavior": _one_of("Isolated"),
        "invert": _one_of(False),
    },
}
_DECODERS: Final[Mapping[str, Fields]] = {
    "ByteFallback": {},
    "ByteLevel": _BYTE_LEVEL,
    "Fuse": {},
    "Metaspace": _METASPACE,
    "Replace": {
        "pattern": _one_of({"String": _SENTENCEPIECE_SPACE}),
        "content": _one_of(" "),
    },
    "Strip": {"content": _one_of(" "), "start": _one_of(0, 1), "stop": _one_of(0)},
    "WordPiece": {"prefix": _one_of("##"), "cleanup": _is_bool},
}


def check_normalizer(step: object) -> None:
    """Demand a known normaliser, or none. Like all checks here raises `FileRefusedError`."""
    for kind, fields in _unfolded(step, "normalizer", "normalizers"):
        _check_step(kind, fields, "normalizer", _NORMALIZERS)


def check_pre_tokenizer(step: object) -> None:
    """Demand known ways to cut a text, with known patterns."""
    for kind, fields in _unfolded(step, "pre_tokenizer", "pretokenizers"):
        _check_step(kind, fields, "pre_tokenizer", _PRE_TOKENIZERS)


def check_decoder(step: object) -> None:
    """Demand known ways to make a text of tokens."""
    for kind, fields in _unfolded(step, "decoder", "decoders"):
        _check_step(kind, fields, "decoder", _DECODERS)


def check_post_processor(step: object, find: Find) -> None:
    """Demand that special tokens are put around the text, by the ids that `find` gives them."""
    for kind, fields in _unfolded(step, "post_processor", "processors"):
        if kind == "TemplateProcessing":
            _check_template(fields, find)
        elif kind == "BertProcessing":
            if fields.keys() != {"cls", "sep"}:
                _refuse("its post_processor BertProcessing has other fields than cls and sep")
            for token in fields.values():
                whole = isinstance(token, list) and len(token) == 2
                _check_token(*(token if whole else (token, None)), find=find)
        else:
            _check_step(kind, fields, "post_processor", {"ByteLevel": _BYTE_LEVEL})


def _unfolded(step: object, what: str, several: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the steps as type and other fields: a sequence's, or the one step, or none."""
    if step is None:
        return []
    steps = [step]
    if isinstance(step, dict) and step.get("type") == "Sequence":
        steps = step.get(several, [])
        if step.keys() != {"type", several} or not isinstance(steps, list):
            _refuse(f"its {what} is a sequence with other fields than its steps")
    if len(steps) > _MAX_STEPS:
        _refuse(f"its {what} has {len(steps)} steps, more than {_MAX_STEPS}")
    found = []
    for each in steps:
        if not isinstance(each, dict) or not isinstance(each.get("type"), str):
            _refuse(f"its {what} has a step without a type")
        fields = {**each}
        found.append((fields.pop("type"), fields))
    return found


def _check_step(
    kind: str, fields: Mapping[str, Any], what: str, known: Mapping[str, Fields]
) -> None:
    if kind not in known:
        _refuse(f"its {what} has the step {kind!r:.60}, which is none of {', '.join(known)}")
    for name, value in fields.items():
        check = known[kind].get(name)
        if check is None or not check(value):
            _refuse(f"its {what} {kind} has {name!r:.40} = {value!r:.80}, which is not known")


def _check_template(fields: Mapping[str, Any], find: Find) -> None:
    what = "its post_processor TemplateProcessing"
    if fields.keys() - {"single", "pair", "special_tokens"}:
        _refuse(f"{what} has unknown fields")
    tokens = fields.get("special_tokens")
    if not isinstance(tokens, dict):
        _refuse(f"{what} has no special_tokens")
    for name, token in tokens.items():
        if not isinstance(token, dict) or token.keys() != {"id", "ids", "tokens"}:
            _refuse(f"{what} has a special token with other fields than id, ids and tokens")
        if token["id"] != name or token["tokens"] != [name] or not isinstance(token["ids"], list):
            _refuse(f"{what} writes another token for {name!r:.60}")
        _check_token(name, token["ids"][0] if len(token["ids"]) == 1 else None, find=find)
    # Each text stands there once: none is dropped, none is doubled.
    _check_pieces(fields.get("single"), ["A"], tokens)
    _check_pieces(fields.get("pair"), ["A", "B"], tokens)


def _check_pieces(pieces: Any, texts: list[str], tokens: Mapping[str, Any]) -> None:
    what = "its post_processor TemplateProcessing"
    if not isinstance(pieces, list) or len(pieces) > _MAX_STEPS:
        _refuse(f"{what} has no list of up to {_MAX_STEPS} pieces")
    found = []
    for piece in pieces:
        kind, value = _read_piece(piece)
        if kind == "Sequence":
            found.append(value)
        elif kind != "SpecialToken" or value not in tokens:
            _refuse(f"{what} puts an unknown token around the text")
    if found != texts:
        _refuse(f"{what} does not keep the text as it is: {found!r:.60}")


def _read_piece(piece: Any) -> tuple[str, str]:
    """Return a piece's kind, and the text or token it stands for."""
    if isinstance(piece, dict) and len(piece) == 1:
        ((kind, value),) = piece.items()
        whole = isinstance(value, dict) and value.keys() == {"id", "type_id"}
        if whole and isinstance(value["id"], str) and value["type_id"] in _TYPE_IDS:
            return kind, value["id"]
    _refuse("its post_processor TemplateProcessing has a piece that is no text and no token")


def _check_token(token: Any, id: Any, *, find: Find) -> None:
    if not isinstance(token, str) or type(id) is not int or find(token) != id:
        _refuse(
            f"its post_processor gives {token!r:.60} the id {id!r:.20}, the vocabulary does not"
        )


def _refuse(rule: str) -> NoReturn:
    raise FileRefusedError(PATH, rule)
