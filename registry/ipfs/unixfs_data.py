"""The UnixFS message inside a dag-pb node, which says what the node is.

Only what our profile writes is read: no inline file data, mode or modification time.
Source: https://specs.ipfs.tech/unixfs/
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from registry.errors import BlockCorruptError
from registry.ipfs.protobuf import bytes_field, fields, varint_field


class Kind(IntEnum):
    """What a node is. Other values of the specification are not written by our profile."""

    DIRECTORY = 1
    FILE = 2
    SHARD = 5


@dataclass(frozen=True, slots=True)
class UnixfsData:
    """The message. `size` counts a file's bytes, `sizes` those below each of its links.

    In a shard `data` is the bit field of its used slots; `hash_type` and `fanout` say how names
    find their slot.
    """

    kind: Kind
    data: bytes = b""
    size: int | None = None
    sizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None

    def encode(self) -> bytes:
        """Return the message's bytes, fields in the order of their numbers."""
        parts = [varint_field(1, self.kind)]
        if self.data:
            parts.append(bytes_field(2, self.data))
        if self.size is not None:
            parts.append(varint_field(3, self.size))
        parts += [varint_field(4, size) for size in self.sizes]
        if self.hash_type is not None:
            parts.append(varint_field(5, self.hash_type))
        if self.fanout is not None:
            parts.append(varint_field(6, self.fanout))
        return b"".join(parts)

    @classmethod
    def decode(cls, message: bytes) -> UnixfsData:
        """Return the message. Raises `BlockCorruptError` for unknown fields or another encoding."""
        sizes: list[int] = []
        data = b""
        numbers: dict[int, int] = {}
        for number, value in fields(message):
            if number == 2 and isinstance(value, bytes):
                data = value
            elif number == 4 and isinstance(value, int):
                sizes.append(value)
            elif number in (1, 3, 5, 6) and isinstance(value, int):
                numbers[number] = value
            else:
                raise BlockCorruptError(f"UnixFS: unknown field {number}")
        kind = numbers.get(1)
        if kind not in set(Kind):
            raise BlockCorruptError(f"UnixFS: node of unknown kind {kind}")
        decoded = cls(
            Kind(kind), data, numbers.get(3), tuple(sizes), numbers.get(5), numbers.get(6)
        )
        if decoded.encode() != message:
            raise BlockCorruptError("UnixFS: not the canonical encoding of its message")
        return decoded
