"""Weights files that the format's own library accepts or refuses; we refuse them all."""

from __future__ import annotations

import json
import pickle
import zipfile
from io import BytesIO
from typing import Any

import pytest

from registry.errors import FileRefusedError
from registry.hashing.safetensors_header import MAX_HEADER_BYTES, TensorInfo, read_header

GOOD = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def weights(header: object, data: bytes = bytes(16)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def tensor(**changes: Any) -> dict[str, Any]:
    return {"a": {**GOOD, **changes}}


def refused(data: bytes) -> str:
    with pytest.raises(FileRefusedError) as caught:
        read_header(memoryview(data), path="model.safetensors")
    assert caught.value.path == "model.safetensors"
    assert str(caught.value).isprintable()
    return caught.value.rule


def zip_of_a_pickle() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return out.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        bytes(8),
        weights(tensor())[:20],
        (1 << 63).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        pickle.dumps({"a": 1}),
        zip_of_a_pickle(),
        b"GGUF" + bytes(100),
    ],
    ids=range(9),
)
def test_what_has_no_whole_header_is_refused(data: bytes) -> None:
    refused(data)


def test_a_header_over_the_limit_is_refused_before_it_is_parsed() -> None:
    size = MAX_HEADER_BYTES + 1
    assert "over" in refused(size.to_bytes(8, "little") + bytes(size))


@pytest.mark.parametrize(
    "header",
    [
        b" " + json.dumps(tensor()).encode(),
        b"\n" + json.dumps(tensor()).encode(),
        b"\xef\xbb\xbf" + json.dumps(tensor()).encode(),
        json.dumps(tensor()).encode() + b"\n",
        json.dumps(tensor()).encode() + b"{}",
        b"[]",
        b"{",
        b"{\xff}",
        b"{" + b'"a":{' * 100_000,
        b'{"a":NaN}',
        b'{"a":1.0}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
    ids=range(12),
)
def test_a_header_that_is_not_one_plain_object_is_refused(header: bytes) -> None:
    refused(weights(header))


def test_a_tensor_that_stands_twice_is_refused() -> None:
    """The library takes the last one; another reader may take the first."""
    one = json.dumps(GOOD)
    two = json.dumps({**GOOD, "dtype": "I32"})
    assert "duplicate" in refused(weights(f'{{"a":{one},"a":{two}}}'.encode()))
    inner = '{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}'
    assert "duplicate" in refused(weights(f'{{"a":{inner}}}'.encode()))


@pytest.mark.parametrize("metadata", [[], "x", {"a": 1}, {"a": {"b": "c"}}, {"a": ["b"]}], ids=repr)
def test_metadata_that_is_not_strings_is_refused(metadata: object) -> None:
    refused(weights({"__metadata__": metadata, **tensor()}))


def test_a_file_without_tensors_is_refused() -> None:
    refused(weights({}, b""))
    refused(weights({"__metadata__": {}}, b""))


def test_more_than_a_hundred_thousand_tensors_are_refused() -> None:
    header = {
        f"t{n}": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(100_001)
    }
    assert "100001 tensors" in refused(weights(header, bytes(100_001)))


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "F31"},
        {"dtype": "f32"},
        {"dtype": 7},
        {"dtype": None},
        {"dtype": ["F32"]},
        {"shape": [2, 3]},
        {"shape": [2]},
        {"shape": []},
        {"shape": "22"},
        {"shape": [2, "2"]},
        {"shape": [4, True]},
        {"shape": [-2, -2]},
        {"shape": [1] * 17 + [4]},
        {"shape": [0, 10**12], "data_offsets": [0, 0]},
        {"shape": [2**40, 2**40]},
        {"data_offsets": [0, 15]},
        {"data_offsets": [0, 17]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [-16, 0]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 16, 16]},
        {"data_offsets": {"0": 16}},
        {"data_offsets": [1, 17]},
        {"extra": 1},
    ],
    ids=repr,
)
def test_a_tensor_whose_fields_do_not_fit_is_refused(changes: dict[str, Any]) -> None:
    refused(weights(tensor(**changes)))


def test_a_tensor_that_lacks_a_field_or_is_no_object_is_refused() -> None:
    for field in GOOD:
        refused(weights({"a": {k: v for k, v in GOOD.items() if k != field}}))
    for entry in ([], "x", 1):
        refused(weights({"a": entry}))


@pytest.mark.parametrize(
    "name",
    ["", "../../etc/x", "a/b", "a\\b", "a b", "a\nb", "a\x1b[2J", "\0", "é", "\ud800", "x" * 513],
    ids=ascii,
)
def test_a_tensor_with_an_odd_name_is_refused(name: str) -> None:
    refused(weights({name: GOOD}))


def test_holes_overlaps_and_trailing_bytes_are_refused() -> None:
    def two(first: list[int], second: list[int]) -> dict[str, Any]:
        entries = {"a": first, "b": second}
        return {
            name: {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
            for name, (start, end) in entries.items()
        }

    refused(weights(two([0, 8], [9, 16])))
    refused(weights(two([0, 9], [8, 16])))
    refused(weights(two([0, 16], [0, 16])))
    refused(weights(two([0, 8], [8, 16]), bytes(17)))
    refused(weights(two([0, 8], [8, 16]), bytes(15)))
    assert len(read_header(memoryview(weights(two([8, 16], [0, 8]))))) == 2


def test_a_plain_header_is_read_in_the_order_of_the_bytes() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "b.weight": {"dtype": "BF16", "shape": [3], "data_offsets": [10, 16]},
        "a.scale": {"dtype": "F16", "shape": [], "data_offsets": [8, 10]},
        "c:0[1]": {"dtype": "I64", "shape": [1, 1], "data_offsets": [0, 8]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    assert list(read_header(memoryview(weights(text))).items()) == [
        ("c:0[1]", TensorInfo("I64", (1, 1), start, start + 8)),
        ("a.scale", TensorInfo("F16", (), start + 8, start + 10)),
        ("b.weight", TensorInfo("BF16", (3,), start + 10, start + 16)),
    ]
