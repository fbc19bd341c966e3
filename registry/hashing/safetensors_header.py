"""The header of a safetensors file, read more strictly than the format's own library does.

One file must mean one set of tensors to every reader: duplicate keys, unknown fields, empty
tensors and odd names, which the library lets pass, are refused along with what it refuses too.
Source: https://huggingface.co/docs/safetensors (format), and attacks tried against version 0.8.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import prod
from typing import Final, NoReturn, cast

from registry.errors import FileRefusedError

# The format's own limit.
MAX_HEADER_BYTES: Final = 100_000_000
# The largest open models have some ten thousand tensors.
MAX_TENSORS: Final = 100_000
MAX_NAME_CHARACTERS: Final = 512
MAX_DIMENSIONS: Final = 16
# Bytes of one element. Types narrower than a byte are not read.
DTYPE_BYTES: Final = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}
# Printable ASCII without space, slash and backslash: a name is never a path or a terminal code.
_NAME: Final = re.compile(r"[!-.0-\[\]-~]+")
_FIELDS: Final = {"dtype", "shape", "data_offsets"}
# The format's writers put no line breaks into a header. One lets a file be a pickle at the same
# time: such programs are made of lines.
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
# More digits than any size in bytes has.
_MAX_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: its bytes are `data[start:end]` of the whole file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(data: memoryview, *, path: str = "weights") -> dict[str, TensorInfo]:
    """Return the tensors of a safetensors file in the order in which their bytes lie.

    `data` is the whole file. Raises `FileRefusedError` that names `path` and the rule, as
    `parse_header` does, or when the header is cut off.
    """
    return parse_header(header_bytes(data, path=path), size=len(data), path=path)


def header_bytes(data: memoryview, *, path: str = "weights") -> bytes:
    """Return the first 8 + n bytes of a file: the length n and the JSON header."""
    length = header_length(data[:8].tobytes(), size=len(data), path=path)
    return data[:length].tobytes()


def header_length(begin: bytes, *, size: int, path: str = "weights") -> int:
    """Return 8 + n for a file of `size` bytes that begins with the 8 bytes `begin`."""
    length = int.from_bytes(begin, "little")
    if len(begin) < 8 or length > size - 8:
        raise FileRefusedError(path, "its safetensors header is cut off")
    if length > MAX_HEADER_BYTES:
        raise FileRefusedError(path, f"its header of {length} bytes is over {MAX_HEADER_BYTES}")
    return 8 + length


def parse_header(head: bytes, *, size: int, path: str = "weights") -> dict[str, TensorInfo]:
    """Return the tensors that a header's bytes describe, for a file of `size` bytes.

    Raises `FileRefusedError` that names `path` and the rule: a header that is not one JSON object
    and spaces after it; duplicate keys; fields, dtypes or names that are not known; no tensor, or
    more than 100 000; a tensor without elements; bytes that do not fit dtype and shape; holes,
    overlaps, trailing bytes.
    """
    header = _parse(head[8:], path)
    _check_metadata(header.pop("__metadata__", {}), path)
    if not 0 < len(header) <= MAX_TENSORS:
        raise FileRefusedError(path, f"has {len(header)} tensors, not 1 to {MAX_TENSORS}")
    tensors = [(name, _tensor(name, entry, len(head), path)) for name, entry in header.items()]
    tensors.sort(key=lambda item: item[1].start)
    end = len(head)
    for name, info in tensors:
        if info.start != end:
            raise FileRefusedError(path, f"tensor {name} leaves a hole or overlaps another")
        end = info.end
    if end != size:
        raise FileRefusedError(path, f"has {size} bytes, its tensors end at {end}")
    return dict(tensors)


def _parse(text: bytes, path: str) -> dict[str, object]:
    def refuse(rule: str) -> NoReturn:
        raise FileRefusedError(path, f"its header {rule}")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) != len(pairs):
            refuse("has a duplicate key")
        return result

    def integer(digits: str) -> int:
        return int(digits) if len(digits) <= _MAX_DIGITS else refuse("has a number too large")

    def fraction(_digits: str) -> NoReturn:
        refuse("has a number that is not an integer")

    # Writers pad the header with spaces, so that tensors lie on multiples of eight.
    padded = text.rstrip(b" ")
    if not (padded.startswith(b"{") and padded.endswith(b"}")):
        refuse("does not begin with { and end with }")
    if _CONTROL.search(padded):
        refuse("has a line break or a control character")
    try:
        value = json.loads(
            padded.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=fraction,
            parse_constant=fraction,
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FileRefusedError(path, "its header is not JSON") from error
    # It began with a brace, so it is an object.
    return cast("dict[str, object]", value)


def _check_metadata(metadata: object, path: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FileRefusedError(path, "its __metadata__ is not an object of strings")


def _tensor(name: str, entry: object, begin: int, path: str) -> TensorInfo:
    def refuse(rule: str) -> NoReturn:
        shown = name[:80].encode("unicode_escape").decode()
        raise FileRefusedError(path, f"tensor {shown} {rule}")

    if len(name) > MAX_NAME_CHARACTERS or not _NAME.fullmatch(name):
        refuse("has a name that is too long or has odd characters")
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        refuse("has not exactly the fields dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        refuse("has an unknown dtype")
    if not _is_naturals(shape) or len(shape) > MAX_DIMENSIONS or 0 in shape:
        refuse(f"has a shape that is not up to {MAX_DIMENSIONS} positive integers")
    if not _is_naturals(offsets) or len(offsets) != 2:
        refuse("has offsets that are not two integers")
    start, end = offsets
    if end - start != DTYPE_BYTES[dtype] * prod(shape):
        refuse(f"has {end - start} bytes, which do not fill {dtype} {shape}")
    return TensorInfo(dtype, tuple(shape), begin + start, begin + end)


def _is_naturals(value: object) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
