"""Properties of CIDs, trees and CAR files that hold for all inputs."""

from __future__ import annotations

import contextlib
import io

import mmh3
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry.errors import BlockCorruptError, BlockError, CidError, FileRefusedError
from registry.ipfs import dag_pb, hamt
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.car import CarError, read_car, write_car
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.ipfs.dag_pb import Link, Node
from registry.ipfs.murmur3 import murmur3_x64_64
from registry.ipfs.profile import MIB, Profile
from registry.ipfs.unixfs import (
    Entry,
    Subtree,
    UnixfsBuilder,
    chunks,
    dir_cid,
    file_cid,
    list_dir,
    read_file,
    tsize_of,
)
from registry.ipfs.unixfs_data import Kind, UnixfsData

digests = st.binary(min_size=32, max_size=32)
cids = st.builds(Cid, st.sampled_from([RAW, DAG_PB]), digests)
names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))
links = st.builds(Link, names, cids, st.integers(0, 2**64 - 1))
# Sizes just around a multiple of a chunk.
sizes = st.builds(lambda n, d: max(0, n * MIB + d), st.integers(0, 3), st.integers(-2, 2))


@given(st.binary(max_size=40))
@example(b"\x01\x55\x12\x20" + bytes(32))
def test_bytes_are_a_cid_or_are_refused_and_never_two_cids(data: bytes) -> None:
    with contextlib.suppress(CidError):
        assert Cid.from_bytes(data).to_bytes() == data


@given(cids, st.integers(0, 58), st.characters(max_codepoint=0x17F))
def test_no_other_text_reads_as_the_same_cid(cid: Cid, position: int, character: str) -> None:
    text = str(cid)
    assert Cid.parse(text) == cid
    changed = text[:position] + character + text[position + 1 :]
    if changed != text:
        with contextlib.suppress(CidError):
            assert Cid.parse(changed) != cid


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 16))
def test_chunks_are_the_same_however_the_stream_is_cut(pieces: list[bytes], size: int) -> None:
    whole = b"".join(pieces)
    cut = list(chunks(pieces, size))
    assert cut == list(chunks([whole], size))
    assert b"".join(cut) == whole
    assert all(len(chunk) == size for chunk in cut[:-1])


@settings(max_examples=25, deadline=None)
@given(sizes, st.integers(1, 2 * MIB), st.binary(min_size=1, max_size=7))
def test_a_file_around_a_chunk_boundary_reads_back_and_changes_with_every_bit(
    size: int, cut: int, pattern: bytes
) -> None:
    data = (pattern * (size // len(pattern) + 1))[:size]
    blocks = MemoryBlockStore()
    cid, length = file_cid([data[:cut], data[cut:]], sink=blocks)
    assert length == size
    assert cid == file_cid([data])[0]
    assert (cid.codec == RAW) == (size <= MIB)
    assert b"".join(read_file(blocks, cid)) == data
    if data:
        flipped = bytearray(data)
        flipped[cut % size] ^= 1
        assert file_cid([bytes(flipped)])[0] != cid


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(1, MIB))
@example(1024, MIB)
def test_the_size_alone_decides_the_bytes_of_all_blocks(full: int, rest: int) -> None:
    leaf, last = Subtree(Cid(RAW, bytes(32)), MIB, MIB), Subtree(Cid(RAW, bytes(32)), rest, rest)
    built = UnixfsBuilder().tree([leaf] * full + [last])
    assert tsize_of(built.size) == built.tsize


@given(st.binary(max_size=400), st.integers(1, 8), st.integers(2, 5))
def test_a_tree_is_balanced_and_counts_its_bytes(data: bytes, chunk: int, width: int) -> None:
    """A small profile makes deep trees of little data."""
    blocks = MemoryBlockStore()
    profile = Profile("small", chunk_bytes=chunk, max_links=width)
    built = UnixfsBuilder(blocks, profile).file([data])
    total = 0

    def walk(cid: Cid) -> tuple[bytes, set[int]]:
        nonlocal total
        block = blocks.get(cid)
        total += len(block)
        if cid.codec == RAW:
            return block, {0}
        node = dag_pb.decode(block)
        assert 0 < len(node.links) <= width
        found = [walk(link.cid) for link in node.links]
        message = UnixfsData.decode(node.data)
        assert message.sizes == tuple(len(content) for content, _ in found)
        depths = set().union(*(depths for _, depths in found))
        return b"".join(content for content, _ in found), {depth + 1 for depth in depths}

    content, depths = walk(built.cid)
    assert content == data
    assert len(depths) == 1
    assert (built.size, built.tsize) == (len(data), total)


@given(st.lists(links, max_size=8, unique_by=lambda link: link.name))
def test_a_directory_has_one_cid_and_lists_what_it_was_made_of(entries: list[Entry]) -> None:
    blocks = MemoryBlockStore()
    small = [Link(e.name, e.cid, e.tsize % 2**40) for e in entries]
    cid = dir_cid(small, sink=blocks)
    assert cid == dir_cid(reversed(small))
    assert list_dir(blocks, cid) == tuple(sorted(small, key=lambda entry: entry.name.encode()))
    if small:
        with pytest.raises(FileRefusedError):
            dir_cid([*small, small[0]])


@settings(max_examples=10, deadline=None)
@given(st.integers(1000, 1300), st.randoms(use_true_random=False))
def test_a_directory_around_the_threshold_lists_what_it_was_made_of(
    count: int, random: object
) -> None:
    blocks = MemoryBlockStore()
    entries = [Link(f"{n:0200}", Cid(RAW, bytes(32)), 1) for n in range(count)]
    cid = dir_cid(entries, sink=blocks)
    kind = UnixfsData.decode(dag_pb.decode(blocks.get(cid)).data).kind
    plain = dag_pb.encode(Node(tuple(entries), UnixfsData(Kind.DIRECTORY).encode()))
    assert (kind == Kind.SHARD) == (len(plain) > 256 * 1024)
    assert list_dir(blocks, cid) == tuple(entries)


@given(st.lists(names, min_size=1, max_size=60, unique=True))
def test_shards_hold_every_name_once(found: list[str]) -> None:
    nodes: dict[Cid, Node] = {}

    def store(node: Node) -> Link:
        block = dag_pb.encode(node)
        cid = Cid.of_block(DAG_PB, block)
        nodes[cid] = node
        return Link("", cid, len(block))

    entries = [Link(name, Cid(RAW, bytes(32)), 1) for name in found]
    root = hamt.build(entries, store)
    listed = hamt.entries(nodes[root.cid], lambda link: nodes[link.cid])
    assert sorted(entry.name for entry in listed) == sorted(found)


@given(st.binary(max_size=100))
def test_names_are_spread_by_murmur3(data: bytes) -> None:
    assert murmur3_x64_64(data) == mmh3.hash64(data, signed=False)[0].to_bytes(8, "big")


@given(st.lists(links, max_size=4), st.binary(max_size=20), st.data())
def test_a_node_has_one_encoding_and_damage_never_passes_for_it(
    found: list[Link], message: bytes, data: st.DataObject
) -> None:
    node = Node(tuple(found), message)
    block = dag_pb.encode(node)
    assert dag_pb.decode(block) == node
    position = data.draw(st.integers(0, len(block) - 1))
    damaged = bytearray(block)
    damaged[position] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BlockCorruptError):
        assert dag_pb.decode(bytes(damaged)) != node


@given(st.binary(max_size=80))
def test_any_bytes_are_a_node_or_are_refused(data: bytes) -> None:
    for decode in (dag_pb.decode, UnixfsData.decode):
        with contextlib.suppress(BlockCorruptError):
            decode(data)


@given(st.dictionaries(names, st.binary(max_size=30), min_size=1, max_size=5), st.data())
def test_a_car_carries_a_folder_and_damage_never_passes(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    here, there = MemoryBlockStore(), MemoryBlockStore()
    builder = UnixfsBuilder(here)
    built = {name: builder.file([content]) for name, content in files.items()}
    root = builder.directory(Entry(n, f.cid, f.tsize) for n, f in built.items()).cid
    out = io.BytesIO()
    write_car(here, [root], out)
    assert read_car(io.BytesIO(out.getvalue()), there) == (root,)
    for entry in list_dir(there, root):
        assert b"".join(read_file(there, entry.cid)) == files[entry.name]
    damaged = bytearray(out.getvalue())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BlockError):
        read_car(io.BytesIO(bytes(damaged)), MemoryBlockStore())


@given(st.binary(max_size=120))
def test_any_bytes_are_a_car_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(CarError):
        read_car(io.BytesIO(data), MemoryBlockStore())
