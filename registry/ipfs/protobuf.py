"""The little of protobuf's wire format that dag-pb and UnixFS use: varints and byte strings.

Readers of messages decode, encode again and compare (see `dag_pb`, `unixfs_data`), so that a
message has one accepted encoding; what is checked here only keeps the decoding bounded.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from registry.errors import BlockCorruptError

_VARINT: Final = 0
_BYTES: Final = 2
# 64 bits at seven bits a byte.
_MAX_VARINT_BYTES: Final = 10


def varint(value: int) -> bytes:
    """Return the shortest varint of a non-negative integer."""
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def varint_field(number: int, value: int) -> bytes:
    """Return one field that holds an integer."""
    return varint(number << 3 | _VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return one field that holds bytes."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the varint at `at` and the position after it. Raises `BlockCorruptError`."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(data):
            raise BlockCorruptError("protobuf: a number is cut off")
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >= 1 << 64 or (index and not byte):
                raise BlockCorruptError("protobuf: a number is not in its shortest form")
            return value, at + index + 1
    raise BlockCorruptError("protobuf: a number has more than 64 bits")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of a message in order. Raises `BlockCorruptError`."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key & 7 == _VARINT:
            yield key >> 3, value
        elif key & 7 == _BYTES and at + value <= len(data):
            yield key >> 3, data[at : at + value]
            at += value
        else:
            raise BlockCorruptError("protobuf: a field is cut off or of an unknown wire type")
