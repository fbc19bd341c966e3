"""Trees made by somebody who wants to be read wrongly, or for ever."""

from __future__ import annotations

import pytest

from registry.errors import BlockCorruptError, BlockMissingError, FileRefusedError
from registry.ipfs import dag_pb
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.ipfs.dag_pb import Link, Node
from registry.ipfs.protobuf import bytes_field, varint_field
from registry.ipfs.unixfs import Entry, UnixfsBuilder, dir_cid, file_cid, list_dir, read_file
from registry.ipfs.unixfs_data import Kind, UnixfsData

MIB = 1 << 20


@pytest.fixture
def blocks() -> MemoryBlockStore:
    return MemoryBlockStore()


def put_file(
    blocks: MemoryBlockStore, children: list[tuple[Cid, int]], *, size: int | None = None
) -> Cid:
    sizes = tuple(size for _, size in children)
    message = UnixfsData(Kind.FILE, size=sum(sizes) if size is None else size, sizes=sizes)
    links = tuple(Link("", cid, size) for cid, size in children)
    return blocks.put(DAG_PB, dag_pb.encode(Node(links, message.encode())))


def read(blocks: MemoryBlockStore, cid: Cid, max_bytes: int = 1 << 40) -> bytes:
    return b"".join(read_file(blocks, cid, max_bytes=max_bytes))


def test_a_missing_block_is_named(blocks: MemoryBlockStore) -> None:
    cid, _ = file_cid([bytes(MIB + 1)])
    with pytest.raises(BlockMissingError) as caught:
        read(blocks, cid)
    assert caught.value.cid == str(cid)


def test_a_size_that_is_not_the_sum_of_its_parts_is_refused(blocks: MemoryBlockStore) -> None:
    leaf = (blocks.put(RAW, bytes(MIB)), MIB)
    with pytest.raises(BlockCorruptError):
        read(blocks, put_file(blocks, [leaf, leaf], size=2 * MIB + 1))


def test_a_leaf_of_another_size_than_declared_is_refused(blocks: MemoryBlockStore) -> None:
    whole, short = blocks.put(RAW, bytes(MIB)), blocks.put(RAW, b"short")
    with pytest.raises(BlockCorruptError):
        read(blocks, put_file(blocks, [(whole, MIB), (short, 6)]))


def test_a_tree_of_other_chunks_than_the_profile_cuts_is_refused(blocks: MemoryBlockStore) -> None:
    half = (blocks.put(RAW, bytes(MIB // 2)), MIB // 2)
    with pytest.raises(BlockCorruptError):
        read(blocks, put_file(blocks, [half] * 4))


def test_a_tree_for_a_file_of_one_chunk_is_refused(blocks: MemoryBlockStore) -> None:
    leaf = (blocks.put(RAW, b"small"), 5)
    with pytest.raises(BlockCorruptError):
        read(blocks, put_file(blocks, [leaf]))


def test_a_tree_deeper_than_its_size_needs_is_refused(blocks: MemoryBlockStore) -> None:
    leaf = (blocks.put(RAW, bytes(MIB)), MIB)
    middle = (put_file(blocks, [leaf, leaf]), 2 * MIB)
    with pytest.raises(BlockCorruptError):
        read(blocks, put_file(blocks, [middle]))


def test_a_declared_size_over_the_limit_is_refused_before_any_leaf(
    blocks: MemoryBlockStore,
) -> None:
    absent = (Cid(RAW, bytes(32)), MIB)
    with pytest.raises(BlockCorruptError, match="limit"):
        read(blocks, put_file(blocks, [absent] * 1024), max_bytes=100 * MIB)
    with pytest.raises(BlockCorruptError):
        read(blocks, blocks.put(RAW, bytes(11)), max_bytes=10)


def test_a_bomb_of_one_block_linked_a_thousand_times_is_refused(blocks: MemoryBlockStore) -> None:
    child, size = blocks.put(RAW, bytes(MIB)), MIB
    for _ in range(3):
        child, size = put_file(blocks, [(child, size)] * 1024), size * 1024
    with pytest.raises(BlockCorruptError, match="limit"):
        read(blocks, child)


def test_a_raw_block_larger_than_a_chunk_is_refused(blocks: MemoryBlockStore) -> None:
    with pytest.raises(BlockCorruptError):
        read(blocks, blocks.put(RAW, bytes(MIB + 1)))


def test_a_leaf_that_claims_to_be_a_node_is_refused(blocks: MemoryBlockStore) -> None:
    raw = blocks.put(RAW, bytes(MIB))
    cid, _ = file_cid([bytes(MIB + 1)], sink=blocks)
    with pytest.raises(BlockCorruptError):
        list_dir(blocks, raw)
    with pytest.raises(BlockCorruptError):
        list_dir(blocks, cid)


def test_a_directory_does_not_read_as_a_file(blocks: MemoryBlockStore) -> None:
    with pytest.raises(BlockCorruptError):
        read(blocks, dir_cid([], sink=blocks))


def test_a_file_with_bytes_beside_its_links_is_refused(blocks: MemoryBlockStore) -> None:
    leaf = Link("", blocks.put(RAW, bytes(MIB)), MIB)
    message = UnixfsData(Kind.FILE, b"inline", size=2 * MIB, sizes=(MIB, MIB))
    cid = blocks.put(DAG_PB, dag_pb.encode(Node((leaf, leaf), message.encode())))
    with pytest.raises(BlockCorruptError):
        read(blocks, cid)


MESSAGE = UnixfsData(Kind.DIRECTORY).encode()
LINK = dag_pb.encode(Node((Link("a", Cid(RAW, bytes(32)), 1),), b""))[:-2]


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xff" * 11,
        b"\x0a",
        b"\x0a\x05ab",
        bytes_field(1, MESSAGE) + LINK,  # data before links
        LINK + bytes_field(1, MESSAGE) + bytes_field(1, MESSAGE),
        LINK + bytes_field(1, MESSAGE) + bytes_field(3, b"x"),
        LINK + bytes_field(1, MESSAGE + varint_field(7, 0o644)),  # a mode
        LINK + bytes_field(1, MESSAGE + bytes_field(8, b"")),  # a modification time
        LINK + bytes_field(1, b"\x08\x81\x00"),  # a kind in two bytes
        LINK + bytes_field(1, varint_field(1, 4)),  # a symbolic link
        LINK + bytes_field(1, b""),
        bytes_field(2, b"\x12\x00") + bytes_field(1, MESSAGE),  # a link to nothing
        bytes_field(2, bytes_field(1, b"\x12\x20" + bytes(32)) + b"\x12\x00\x18\x01")
        + bytes_field(1, MESSAGE),  # a CIDv0 inside
        bytes_field(2, bytes_field(1, Cid(RAW, bytes(32)).to_bytes()) + b"\x12\x01\xff\x18\x01")
        + bytes_field(1, MESSAGE),  # a name that is not UTF-8
        b"\x12\x00\x0b" + bytes_field(1, MESSAGE),
    ],
    ids=lambda block: block[:12].hex() or "empty",
)
def test_a_block_that_is_not_canonical_is_refused(blocks: MemoryBlockStore, block: bytes) -> None:
    with pytest.raises(BlockCorruptError):
        list_dir(blocks, blocks.put(DAG_PB, block))


def put_directory(blocks: MemoryBlockStore, names: list[str], data: bytes = MESSAGE) -> Cid:
    file = blocks.put(RAW, b"x")
    links = tuple(Link(name, file, 1) for name in names)
    return blocks.put(DAG_PB, dag_pb.encode(Node(links, data)))


@pytest.mark.parametrize(
    "names", [["b", "a"], ["a", "a"], [""], ["."], [".."], ["a/b"], ["a\0"]], ids=repr
)
def test_a_directory_with_odd_or_disordered_names_is_refused(
    blocks: MemoryBlockStore, names: list[str]
) -> None:
    with pytest.raises(BlockCorruptError):
        list_dir(blocks, put_directory(blocks, names))


def test_a_small_directory_in_shards_is_refused(blocks: MemoryBlockStore) -> None:
    shard = UnixfsData(Kind.SHARD, b"\x01", hash_type=0x22, fanout=256).encode()
    with pytest.raises(BlockCorruptError):
        list_dir(blocks, put_directory(blocks, ["00a"], shard))


def test_shards_without_end_are_refused(blocks: MemoryBlockStore) -> None:
    shard = UnixfsData(Kind.SHARD, b"\x01", hash_type=0x22, fanout=256).encode()
    child = put_directory(blocks, ["00a"], shard)
    for _ in range(8):
        node = Node((Link("00", child, 1),), shard)
        child = blocks.put(DAG_PB, dag_pb.encode(node))
    with pytest.raises(BlockCorruptError, match="deeper"):
        list_dir(blocks, child)


def test_a_shard_that_leads_to_a_file_is_refused(blocks: MemoryBlockStore) -> None:
    shard = UnixfsData(Kind.SHARD, b"\x01", hash_type=0x22, fanout=256).encode()
    file = put_file(blocks, [(Cid(RAW, bytes(32)), 1)])
    cid = blocks.put(DAG_PB, dag_pb.encode(Node((Link("00", file, 1),), shard)))
    with pytest.raises(BlockCorruptError, match="shard"):
        list_dir(blocks, cid)


def test_names_that_stand_twice_are_refused_when_building() -> None:
    entry = Entry("a", Cid(RAW, bytes(32)), 1)
    with pytest.raises(FileRefusedError):
        dir_cid([entry, entry])


def test_a_two_level_tree_reads_back_chunk_by_chunk(blocks: MemoryBlockStore) -> None:
    """1025 chunks: the smallest file with a lone leaf under a node of its own."""
    builder = UnixfsBuilder(blocks)
    pieces = [bytes([n % 251]) * MIB for n in range(3)]
    leaves = [builder.leaf(piece) for piece in pieces]
    cid = builder.tree([*(leaves * 342)[:1024], builder.leaf(b"end")]).cid
    total = 0
    for number, piece in enumerate(read_file(blocks, cid)):
        assert piece == (b"end" if number == 1024 else pieces[number % 3])
        total += len(piece)
    assert total == 1024 * MIB + 3
