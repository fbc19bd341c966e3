from __future__ import annotations

import io

import pytest

from registry.errors import BlockMissingError
from registry.ipfs.blockstore import MAX_BLOCK_BYTES, MemoryBlockStore
from registry.ipfs.car import CarError, read_car, write_car
from registry.ipfs.cid import CID_BYTES, RAW, Cid
from registry.ipfs.protobuf import varint
from registry.ipfs.unixfs import Entry, UnixfsBuilder, list_dir, read_file

# A CARv1 of the raw block "hello world", put together by hand from the specification.
HELLO = Cid.parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
HELLO_CAR = bytes.fromhex(
    "3a" "a2" "65" "726f6f7473" "81" "d82a" "5825" "00" "01551220"
    "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    "67" "76657273696f6e" "01"
    "2f" "01551220" "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
    "68656c6c6f20776f726c64"
)  # fmt: skip


def read(data: bytes, max_bytes: int = 1 << 30) -> tuple[Cid, ...]:
    return read_car(io.BytesIO(data), MemoryBlockStore(), max_bytes=max_bytes)


def section(cid: Cid, data: bytes) -> bytes:
    return varint(CID_BYTES + len(data)) + cid.to_bytes() + data


HEADER = HELLO_CAR[:59]


@pytest.mark.parametrize("cut", range(len(HELLO_CAR)))
def test_a_file_cut_off_anywhere_is_refused(cut: int) -> None:
    with pytest.raises(CarError):
        read(HELLO_CAR[:cut])


@pytest.mark.parametrize("position", range(len(HELLO_CAR)))
def test_a_flipped_bit_anywhere_is_refused(position: int) -> None:
    damaged = bytearray(HELLO_CAR)
    damaged[position] ^= 1
    with pytest.raises(CarError):
        read(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        b"<html>404</html>",
        HELLO_CAR + b"\x00",
        HELLO_CAR + b"\x80\x00",
        HELLO_CAR + b"\xff\xff\xff\xff",
        HEADER + varint(CID_BYTES + MAX_BLOCK_BYTES + 1),
        HEADER + section(HELLO, b"hello worle"),
        HEADER + section(Cid.of_block(RAW, b"another"), b"another"),
        varint(2) + b"\xa0\x00",
        varint(17) + b"\xa2\x65roots\x80\x67version\x01",
    ],
    ids=range(9),
)
def test_what_is_not_a_car_of_our_blocks_is_refused(data: bytes) -> None:
    with pytest.raises(CarError):
        read(data)


def test_a_file_over_the_limit_is_refused() -> None:
    with pytest.raises(CarError):
        read(HELLO_CAR, max_bytes=len(HELLO_CAR) - 10)


def test_a_missing_block_stops_the_writing() -> None:
    with pytest.raises(BlockMissingError):
        write_car(MemoryBlockStore(), [HELLO], io.BytesIO())


def test_no_roots_are_refused() -> None:
    for roots in ([], [HELLO] * 24):
        with pytest.raises(CarError):
            write_car(MemoryBlockStore(), roots, io.BytesIO())


def test_the_smallest_car_is_byte_for_byte_that_of_the_specification() -> None:
    blocks, out = MemoryBlockStore(), io.BytesIO()
    blocks.put(RAW, b"hello world")
    assert write_car(blocks, [HELLO], out) == 1
    assert out.getvalue() == HELLO_CAR
    assert read(HELLO_CAR) == (HELLO,)


def test_a_folder_travels_in_a_car_and_shared_blocks_travel_once() -> None:
    here, there, out = MemoryBlockStore(), MemoryBlockStore(), io.BytesIO()
    builder = UnixfsBuilder(here)
    content = bytes(5 << 20) + b"end"
    file = builder.file([content])
    root = builder.directory([Entry(n, file.cid, file.tsize) for n in ("a", "b")])
    # One directory, one file node, one leaf of zeros five times, one last leaf.
    assert write_car(here, [root.cid, file.cid], out) == 4
    assert read_car(io.BytesIO(out.getvalue()), there) == (root.cid, file.cid)
    entries = list_dir(there, root.cid)
    assert [entry.name for entry in entries] == ["a", "b"]
    assert b"".join(read_file(there, entries[0].cid)) == content
