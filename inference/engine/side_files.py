"""The small files beside the weights: read as data, never as code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from transformers import PreTrainedConfig

from inference.engine.architecture import ARCHITECTURES
from inference.engine.image_recipe import PATH as PREPROCESSOR
from inference.engine.image_recipe import ImageRecipe
from inference.errors import LoadRefusedError
from registry.adapter_config import PATH as ADAPTER
from registry.adapter_config import LoraConfig, read_config
from registry.errors import FileRefusedError
from registry.hashing.sealed import SealedFile
from registry.text.golden import Golden, check_golden
from registry.text.model_text import CONFIG, GENERATION, TEXT_FILES, ModelText, read_model_text
from registry.text.strict_json import parse_object

__all__ = [
    "CONFIG",
    "GENERATION",
    "INDEX",
    "check_index",
    "check_kinds",
    "read_bytes",
    "read_end_ids",
    "read_json",
    "read_labels",
    "read_recipe",
    "read_text",
]

INDEX: Final = "model.safetensors.index.json"
# Files that are read, and files that nothing here reads and no loader runs.
_READ: Final = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|preprocessor_config\.json|chat_template\.jinja|model\.safetensors\.index\.json|[^/]+\.safetensors"
)
_INERT: Final = re.compile(
    r"(README|LICENSE|NOTICE|USE_POLICY)[A-Za-z0-9._-]*|[^/]+\.(md|txt)|\.gitattributes"
    r"|special_tokens_map\.json|added_tokens\.json|vocab\.json"
)
# No text file of a model is larger; the largest vocabularies have some 10 MB.
_MAX_TEXT_BYTES: Final = 32 * 1024 * 1024
# What no text holds, and nearly every other format does.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
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


def check_kinds(files: Mapping[str, SealedFile]) -> None:
    """Raise `LoadRefusedError` for a file of a kind that no loader needs."""
    for path, file in sorted(files.items()):
        begin = bytes(file.view()[:8])
        kind = next((kind for magic, kind in _MAGIC.items() if begin.startswith(magic)), None)
        if kind is not None:
            raise LoadRefusedError(path, f"is {kind}: only safetensors and texts are loaded")
        if _INERT.fullmatch(path):
            _check_text(path, file)
        elif not _READ.fullmatch(path):
            raise LoadRefusedError(
                path,
                "is of a kind that is not loaded",
                hint="Register the model without it.",
            )


def _check_text(path: str, file: SealedFile) -> None:
    """Refuse what is no text under a text's name: a program or an archive by another name."""
    if file.size > _MAX_TEXT_BYTES:
        raise LoadRefusedError(path, f"has {file.size} bytes, more than {_MAX_TEXT_BYTES}")
    try:
        text = file.bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise LoadRefusedError(path, "is not a text: it is not UTF-8") from error
    if _CONTROL.search(text):
        raise LoadRefusedError(path, "is not a text: it has control characters")


def read_json(files: Mapping[str, SealedFile], path: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises `LoadRefusedError`."""
    try:
        return parse_object(read_bytes(files, path), path)
    except FileRefusedError as error:
        raise LoadRefusedError(error.path, error.rule, hint=error.hint) from error


def read_bytes(files: Mapping[str, SealedFile], path: str) -> bytes:
    """Return a file's bytes. Raises `LoadRefusedError` when the model has no such file."""
    if path not in files:
        raise LoadRefusedError(path, "is missing")
    return files[path].bytes()


def read_end_ids(files: Mapping[str, SealedFile], config: PreTrainedConfig) -> frozenset[int]:
    """Return the tokens that end an answer: generation_config.json's, else config.json's."""
    named: Any = getattr(config, "eos_token_id", None)
    path = CONFIG
    if GENERATION in files:
        generation = read_json(files, GENERATION)
        if generation.get("eos_token_id") is not None:
            path, named = GENERATION, generation["eos_token_id"]
    ids = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(id) is int and 0 <= id < config.vocab_size for id in ids):
        raise LoadRefusedError(path, f"eos_token_id is {named!r:.60}, which is no token")
    return frozenset(ids)


def read_text(files: Mapping[str, SealedFile], *, rows: int, golden: Golden | None) -> ModelText:
    """Return the model's tokenizer and template, after its golden vectors came out the same.

    `rows` is the height of its embedding. Raises `LoadRefusedError`.
    """
    texts = {path: files[path].bytes() for path in TEXT_FILES if path in files}
    try:
        found = read_model_text(texts, rows=rows)
        if golden is not None:
            check_golden(golden, found.tokenizer, found.template)
    except FileRefusedError as error:
        raise LoadRefusedError(error.path, error.rule, hint=error.hint) from error
    return found


def read_adapter(files: Mapping[str, SealedFile]) -> LoraConfig:
    """Return what an adapter computes. Raises `LoadRefusedError`."""
    try:
        return read_config(files[ADAPTER].bytes())
    except FileRefusedError as error:
        raise LoadRefusedError(error.path, error.rule, hint=error.hint) from error


def read_recipe(
    files: Mapping[str, SealedFile], architecture: str, config: PreTrainedConfig
) -> ImageRecipe | None:
    """Return how the images of a model that sees are prepared; None for one that reads text.

    A model has either files of text or the file of images. Raises `LoadRefusedError`.
    """
    sees = ARCHITECTURES[architecture].sees
    for path in TEXT_FILES if sees else (PREPROCESSOR,):
        if path in files and path != CONFIG:
            raise LoadRefusedError(path, f"is of no use to a {architecture}")
    if not sees:
        return None
    if PREPROCESSOR not in files:
        raise LoadRefusedError(PREPROCESSOR, "is missing")
    return ImageRecipe.read(read_json(files, PREPROCESSOR), size=config.image_size)


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
