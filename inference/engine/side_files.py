"""The small files beside the weights: read as data, never as code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from transformers import PreTrainedConfig

from inference.engine.chat_template import PATH as TEMPLATE
from inference.engine.chat_template import ChatTemplate
from inference.engine.strict_json import parse_object
from inference.errors import LoadRefusedError
from registry.hashing.sealed import SealedFile

CONFIG: Final = "config.json"
GENERATION: Final = "generation_config.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
INDEX: Final = "model.safetensors.index.json"
# Files that are read, and files that nothing here reads and no loader runs.
_READ: Final = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|chat_template\.jinja|model\.safetensors\.index\.json|[^/]+\.safetensors"
)
_INERT: Final = re.compile(
    r"(README|LICENSE|NOTICE|USE_POLICY)[A-Za-z0-9._-]*|[^/]+\.(md|txt)|\.gitattributes"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.json"
)
# How formats begin whose reading can run code, or that pretend to be something else.
_MAGIC: Final[Mapping[bytes, str]] = {
    b"PK\x03\x04": "a zip archive",
    b"\x80\x02": "a pickle",
    b"\x80\x03": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy file",
    b"GGUF": "a GGUF file",
    b"\x7fELF": "a program",
    b"#!": "a program",
    b"\x1f\x8b": "a gzip archive",
}
_SPECIAL_TOKENS: Final = ("bos_token", "eos_token", "pad_token", "unk_token")


def check_kinds(files: Mapping[str, SealedFile]) -> None:
    """Raise `LoadRefusedError` for a file of a kind that no loader needs."""
    for path, file in sorted(files.items()):
        begin = bytes(file.view()[:8])
        kind = next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), None)
        if kind is not None and not _is_header_length(path, begin):
            raise LoadRefusedError(path, f"is {kind}: only safetensors and texts are loaded")
        if not (_READ.fullmatch(path) or _INERT.fullmatch(path)):
            raise LoadRefusedError(
                path,
                "is of a kind that is not loaded",
                hint="Register the model without it.",
            )


def read_json(files: Mapping[str, SealedFile], path: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises `LoadRefusedError`."""
    return parse_object(read_bytes(files, path), path)


def read_bytes(files: Mapping[str, SealedFile], path: str) -> bytes:
    """Return a file's bytes. Raises `LoadRefusedError` when the model has no such file."""
    if path not in files:
        raise LoadRefusedError(path, "is missing")
    return files[path].bytes()


def read_end_ids(files: Mapping[str, SealedFile], config: PreTrainedConfig) -> frozenset[int]:
    """Return the tokens that end an answer: generation_config.json's, else config.json's."""
    named: Any = config.eos_token_id
    path = CONFIG
    if GENERATION in files:
        generation = read_json(files, GENERATION)
        if generation.get("eos_token_id") is not None:
            path, named = GENERATION, generation["eos_token_id"]
    ids = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(id) is int and 0 <= id < config.vocab_size for id in ids):
        raise LoadRefusedError(path, f"eos_token_id is {named!r:.60}, which is no token")
    return frozenset(ids)


def read_template(files: Mapping[str, SealedFile]) -> ChatTemplate | None:
    """Return the model's one chat template, or None. Raises `LoadRefusedError`."""
    about = read_json(files, TOKENIZER_CONFIG) if TOKENIZER_CONFIG in files else {}
    inline = about.get("chat_template")
    if inline is not None and not isinstance(inline, str):
        raise LoadRefusedError(TOKENIZER_CONFIG, "has several chat templates, not one")
    source = inline
    if TEMPLATE in files:
        try:
            source = read_bytes(files, TEMPLATE).decode("utf-8")
        except UnicodeDecodeError as error:
            raise LoadRefusedError(TEMPLATE, "is not UTF-8") from error
        if inline is not None and inline != source:
            raise LoadRefusedError(TEMPLATE, f"differs from the template in {TOKENIZER_CONFIG}")
    if source is None:
        return None
    return ChatTemplate(source, _special_tokens(about))


def read_labels(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return a classifier's labels in the order of its outputs."""
    names: Mapping[Any, str] = config.id2label or {}
    return tuple(names[number] for number in range(len(names)))


def check_index(files: Mapping[str, SealedFile], places: Mapping[str, str]) -> None:
    """Check a sharded model's index against where its tensors are: tensor name to file.

    Nothing is read by way of the index; but one that says something else is a trap for others.
    """
    if INDEX in files and read_json(files, INDEX).get("weight_map") != dict(places):
        raise LoadRefusedError(INDEX, "maps tensors to other files than the manifest does")


def _special_tokens(about: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name in _SPECIAL_TOKENS:
        token = about.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            found[name] = token
    return found


def _is_header_length(path: str, begin: bytes) -> bool:
    """Return whether the first bytes are a safetensors header length that looks like magic."""
    return path.endswith(".safetensors") and begin[4:8] == bytes(4)
