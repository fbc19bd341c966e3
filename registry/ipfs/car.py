"""CAR files: a tree of blocks in one stream, for moving models without a network.

CARv1 with our CIDs only; what is read is re-hashed block by block.
Source: https://ipld.io/specs/transport/car/carv1/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

from registry.errors import BlockError, CidError
from registry.ipfs import dag_pb
from registry.ipfs.blockstore import MAX_BLOCK_BYTES, BlockStore
from registry.ipfs.cid import CID_BYTES, DAG_PB, Cid
from registry.ipfs.protobuf import varint

# One byte of CBOR counts them.
MAX_ROOTS: Final = 23
# A whole large model.
MAX_CAR_BYTES: Final = 1 << 40
# dag-cbor of {"roots": [...], "version": 1}: the keys in their one canonical order.
_HEADER_START: Final = b"\xa2\x65roots"
_HEADER_END: Final = b"\x67version\x01"
# Tag 42, a byte string of 37 bytes, the identity multibase: how dag-cbor writes a CID.
_CID_START: Final = b"\xd8\x2a\x58\x25\x00"
# 2^21 is the first length that needs a fourth byte; a block and its CID may be just above it.
_MAX_LENGTH_BYTES: Final = 4


class CarError(BlockError):
    """A stream is not a CAR file of blocks that we accept."""


def write_car(blocks: BlockStore, roots: Sequence[Cid], out: BinaryIO) -> int:
    """Write the trees below `roots`, each block once, parents first; return the blocks written.

    The same trees make the same bytes. Raises `CarError` for no roots or over 23, and what
    `blocks.get` raises.
    """
    if not 0 < len(roots) <= MAX_ROOTS:
        raise CarError(f"{len(roots)} roots, not 1 to {MAX_ROOTS}")
    header = _header(roots)
    out.write(varint(len(header)) + header)
    written: set[Cid] = set()
    waiting = list(reversed(roots))
    while waiting:
        cid = waiting.pop()
        if cid in written:
            continue
        data = blocks.get(cid)
        out.write(varint(CID_BYTES + len(data)) + cid.to_bytes() + data)
        written.add(cid)
        if cid.codec == DAG_PB:
            waiting.extend(link.cid for link in reversed(dag_pb.decode(data).links))
    return len(written)


def read_car(
    stream: BinaryIO, blocks: BlockStore, *, max_bytes: int = MAX_CAR_BYTES
) -> tuple[Cid, ...]:
    """Put every block of a CAR file into `blocks` and return its roots.

    Raises `CarError` when the stream is cut off, larger than `max_bytes`, has a header or a CID
    of another kind, a block that does not hash to its CID, or lacks a root. Blocks before the
    fault stay stored: each is right by itself.
    """
    sections = _sections(stream, max_bytes)
    roots = _parse_header(next(sections, b""))
    for section in sections:
        try:
            cid = Cid.from_bytes(section[:CID_BYTES])
        except CidError as error:
            raise CarError(f"CAR: {error}") from error
        data = section[CID_BYTES:]
        if not cid.matches(data):
            raise CarError(f"CAR: other bytes under {cid}", cid=str(cid))
        blocks.put(cid.codec, data)
    for root in roots:
        if not blocks.has(root):
            raise CarError(f"CAR: the root {root} is not in it", cid=str(root))
    return roots


def _header(roots: Sequence[Cid]) -> bytes:
    listed = b"".join(_CID_START + root.to_bytes() for root in roots)
    return _HEADER_START + bytes([0x80 + len(roots)]) + listed + _HEADER_END


def _parse_header(header: bytes) -> tuple[Cid, ...]:
    step = len(_CID_START) + CID_BYTES
    start = len(_HEADER_START) + 1
    body = header[start : len(header) - len(_HEADER_END)]
    try:
        roots = tuple(
            Cid.from_bytes(body[at + len(_CID_START) : at + step])
            for at in range(0, len(body), step)
        )
    except CidError as error:
        raise CarError(f"CAR: its header names {error}") from error
    # Written again and compared, so that only the canonical header is accepted.
    if not 0 < len(roots) <= MAX_ROOTS or _header(roots) != header:
        raise CarError("CAR: not a CARv1 header with 1 to 23 of our CIDs as roots")
    return roots


def _sections(stream: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    left = max_bytes
    while (length := _read_length(stream)) is not None:
        left -= length
        if length > CID_BYTES + MAX_BLOCK_BYTES or left < 0:
            raise CarError(f"CAR: a section of {length} bytes, or more than {max_bytes} in all")
        section = stream.read(length)
        if len(section) != length:
            raise CarError("CAR: cut off within a block")
        yield section


def _read_length(stream: BinaryIO) -> int | None:
    value = 0
    for index in range(_MAX_LENGTH_BYTES):
        byte = stream.read(1)
        if not byte:
            if index:
                raise CarError("CAR: cut off within a length")
            return None
        value |= (byte[0] & 0x7F) << 7 * index
        if byte[0] < 0x80:
            if len(varint(value)) != index + 1:
                raise CarError("CAR: a length is not in its shortest form")
            return value
    raise CarError("CAR: a section is longer than any block")
