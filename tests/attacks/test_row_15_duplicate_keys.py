"""Row 15: a tensor's name twice in one header. The library takes the last; others the first."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.attacks.forgery import honest_tensors
from tests.attacks.hall import Hall
from tests.attacks.safetensors_bytes import WEIGHTS, joined, library_reads, taken_apart, written

NAME = "model.norm.weight"
RULE = "its header has a duplicate key"


def with_first(folder: Path, text: str) -> bytes:
    """Return the folder's weights with `text` put before the first key of the header."""
    parts = taken_apart(folder / WEIGHTS)
    return joined(b"{" + text.encode() + b"," + written(parts.header)[1:], parts.body)


def refused(hall: Hall, folder: Path, data: bytes, rule: str = RULE) -> None:
    tensors, old = honest_tensors(folder), honest_tensors(folder, version=1)
    (folder / WEIGHTS).write_bytes(data)
    hall.register_refuses(folder, rule)
    hall.refuses(hall.forge(folder, tensors=tensors), rule, path=WEIGHTS)
    hall.refuses_here(hall.forge(folder, tensors=old, version=1), rule, path=WEIGHTS)


def test_the_library_accepts_a_name_twice_and_takes_the_last(folder: Path) -> None:
    entry = '"dtype":"U8","shape":[7],"data_offsets":[0,7]'
    found = library_reads(with_first(folder, f'"{NAME}":{{{entry}}}'))
    assert found[NAME].dtype == torch.float32
    assert found[NAME].shape == (32,)


@pytest.mark.parametrize(
    "entry",
    [
        '"dtype":"F32","shape":[8,4],"data_offsets":[%d,%d]',
        '"dtype":"I32","shape":[32],"data_offsets":[%d,%d]',
        '"dtype":"BF16","shape":[64],"data_offsets":[%d,%d]',
        '"dtype":"U8","shape":[128],"data_offsets":[%d,%d]',
        '"dtype":"F32","shape":[32],"data_offsets":[%d,%d]',
    ],
    ids=["other shape", "other dtype", "both", "bytes", "the same"],
)
def test_a_name_twice_is_refused(hall: Hall, folder: Path, entry: str) -> None:
    start, end = taken_apart(folder / WEIGHTS).header[NAME]["data_offsets"]
    data = with_first(folder, f'"{NAME}":{{{entry % (start, end)}}}')
    assert NAME in library_reads(data)
    refused(hall, folder, data)


def test_a_name_twice_at_the_end_is_refused(hall: Hall, folder: Path) -> None:
    parts = taken_apart(folder / WEIGHTS)
    start, end = parts.header[NAME]["data_offsets"]
    other = f',"{NAME}":{{"dtype":"I32","shape":[32],"data_offsets":[{start},{end}]}}}}'
    data = joined(written(parts.header)[:-1] + other.encode(), parts.body)
    assert library_reads(data)[NAME].dtype == torch.int32
    refused(hall, folder, data)


def test_a_name_twice_in_other_bytes_is_refused(hall: Hall, folder: Path) -> None:
    """The first says where the good bytes are, the last where the bad ones are."""
    parts = taken_apart(folder / WEIGHTS)
    end = len(parts.body)
    other = f',"{NAME}":{{"dtype":"F32","shape":[32],"data_offsets":[{end},{end + 128}]}}}}'
    body = parts.body + torch.full((32,), 7.0).numpy().tobytes()
    refused(hall, folder, joined(written(parts.header)[:-1] + other.encode(), body))


def test_a_name_twice_in_other_letters_of_json_is_refused(hall: Hall, folder: Path) -> None:
    start, end = taken_apart(folder / WEIGHTS).header[NAME]["data_offsets"]
    escaped = "\\u006d" + NAME[1:]
    entry = f'"dtype":"I32","shape":[32],"data_offsets":[{start},{end}]'
    data = with_first(folder, f'"{escaped}":{{{entry}}}')
    assert NAME in library_reads(data)
    refused(hall, folder, data)


@pytest.mark.parametrize(
    "field", ['"dtype":"I32"', '"shape":[8,4]', '"data_offsets":[0,128]'], ids=lambda f: f[:9]
)
def test_a_field_of_a_tensor_twice_is_refused(hall: Hall, folder: Path, field: str) -> None:
    parts = taken_apart(folder / WEIGHTS)
    text = written(parts.header)
    name = f'"{NAME}":{{'.encode()
    refused(hall, folder, joined(text.replace(name, name + field.encode() + b","), parts.body))


def test_metadata_twice_is_refused(hall: Hall, folder: Path) -> None:
    pair = '"__metadata__":{"format":"pt"},"__metadata__":{"format":"np"}'
    refused(hall, folder, with_first(folder, pair))


def test_a_key_of_the_metadata_twice_is_refused(hall: Hall, folder: Path) -> None:
    text = '"__metadata__":{"format":"pt","format":"np"}'
    refused(hall, folder, with_first(folder, text))


def test_one_name_in_two_files_is_refused(hall: Hall, folder: Path) -> None:
    data = joined({NAME: {"dtype": "F32", "shape": [32], "data_offsets": [0, 128]}}, bytes(128))
    (folder / "extra.safetensors").write_bytes(data)
    hall.register_refuses(folder, "a tensor name stands in two files")
    hall.refuses(hall.forge(folder), r"step 2.*a tensor name stands in two files")
