"""UnixFS: files and directories as trees of blocks, and back.

A file is cut into chunks; the chunks are the leaves of a balanced tree whose root names the file.
The profile fixes chunk size and width, so the bytes alone decide the CID. Reading demands that
same shape: a file or directory has one CID here, and a tree of any other shape is refused.
Source: https://specs.ipfs.tech/unixfs/, IPIP-499.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from registry.errors import BlockCorruptError, FileRefusedError
from registry.ipfs import dag_pb, hamt
from registry.ipfs.blockstore import BlockStore
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.ipfs.dag_pb import Link, Node
from registry.ipfs.profile import UNIXFS_V1_2025, Profile
from registry.ipfs.unixfs_data import Kind, UnixfsData

# A directory entry: name, CID, and the bytes of all blocks below it.
Entry: TypeAlias = Link

# Bounds the tree that a hostile size can ask for; the largest open weights are below it.
MAX_FILE_BYTES: Final = 1 << 40
# Bounds the memory that listing a hostile directory takes.
MAX_ENTRIES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Subtree:
    """Part of a file: its root, its content's bytes, and the bytes of all its blocks."""

    cid: Cid
    size: int
    tsize: int


class UnixfsBuilder:
    """Turns bytes into blocks of a profile; with a `sink` the blocks are also stored.

    `leaf` may be called from several threads when the sink may.
    """

    def __init__(self, sink: BlockStore | None = None, profile: Profile = UNIXFS_V1_2025) -> None:
        self.profile = profile
        self._sink = sink

    def leaf(self, data: bytes) -> Subtree:
        """Return the leaf of one chunk of at most `profile.chunk_bytes`."""
        if self.profile.raw_leaves:
            cid = self._sink.put(RAW, data) if self._sink else Cid.of_block(RAW, data)
            return Subtree(cid, len(data), len(data))
        message = UnixfsData(Kind.FILE, data, size=len(data))
        return self._subtree(Node((), message.encode()), len(data))

    def tree(self, leaves: Iterable[Subtree]) -> Subtree:
        """Return the file that these leaves make, in order. No leaves make the empty file."""
        level = list(leaves) or [self.leaf(b"")]
        width = self.profile.max_links
        while len(level) > 1:
            level = [self.parent(level[at : at + width]) for at in range(0, len(level), width)]
        return level[0]

    def parent(self, children: Sequence[Subtree]) -> Subtree:
        """Return the node above at most `profile.max_links` subtrees."""
        sizes = tuple(child.size for child in children)
        message = UnixfsData(Kind.FILE, size=sum(sizes), sizes=sizes)
        links = tuple(Link("", child.cid, child.tsize) for child in children)
        return self._subtree(Node(links, message.encode()), sum(sizes))

    def file(self, pieces: Iterable[bytes]) -> Subtree:
        """Return the file of a stream of byte pieces of any sizes, holding one chunk at a time."""
        return self.tree(map(self.leaf, chunks(pieces, self.profile.chunk_bytes)))

    def directory(self, entries: Iterable[Entry]) -> Subtree:
        """Return the directory of entries in any order; a big one becomes a HAMT.

        Raises `FileRefusedError` for a duplicate name or one that is no name.
        """
        ordered = sorted(entries, key=lambda entry: entry.name.encode())
        _check_names(ordered)
        node = Node(tuple(ordered), UnixfsData(Kind.DIRECTORY).encode())
        if self._is_over(node):
            root = hamt.build(ordered, self._link)
            return Subtree(root.cid, 0, root.tsize)
        return self._subtree(node, 0)

    def _is_over(self, node: Node) -> bool:
        if self.profile.estimate_by_links:
            hash_bytes = 36 if self.profile.cid_version else 34
            size = sum(len(link.name.encode()) + hash_bytes for link in node.links)
        else:
            size = len(dag_pb.encode(node))
        return size > self.profile.shard_over_bytes

    def _link(self, node: Node) -> Link:
        subtree = self._subtree(node, 0)
        return Link("", subtree.cid, subtree.tsize)

    def _subtree(self, node: Node, size: int) -> Subtree:
        block = dag_pb.encode(node, cid_version=self.profile.cid_version)
        cid = self._sink.put(DAG_PB, block) if self._sink else Cid.of_block(DAG_PB, block)
        return Subtree(cid, size, len(block) + sum(link.tsize for link in node.links))


def chunks(pieces: Iterable[bytes], chunk_bytes: int) -> Iterator[bytes]:
    """Yield the same bytes in pieces of `chunk_bytes`; only the last may be shorter."""
    held = bytearray()
    for piece in pieces:
        if not held and len(piece) == chunk_bytes:
            yield piece
            continue
        held += piece
        while len(held) >= chunk_bytes:
            yield bytes(held[:chunk_bytes])
            del held[:chunk_bytes]
    if held:
        yield bytes(held)


def file_cid(
    pieces: Iterable[bytes],
    *,
    sink: BlockStore | None = None,
    profile: Profile = UNIXFS_V1_2025,
) -> tuple[Cid, int]:
    """Return the CID and the size in bytes of a file, read as a stream of pieces."""
    file = UnixfsBuilder(sink, profile).file(pieces)
    return file.cid, file.size


def dir_cid(entries: Iterable[Entry], *, sink: BlockStore | None = None) -> Cid:
    """Return the CID of a directory. Raises like `UnixfsBuilder.directory`."""
    return UnixfsBuilder(sink).directory(entries).cid


def tsize_of(size: int) -> int:
    """Return the bytes of all blocks of a file of `size` bytes: the profile alone decides it.

    Raises `FileRefusedError` above 1 TiB.
    """
    if not 0 <= size <= MAX_FILE_BYTES:
        raise FileRefusedError("file", f"{size} bytes is not within 0 and {MAX_FILE_BYTES}")
    return _tsize(size, _depth(size))


def read_file(blocks: BlockStore, cid: Cid, *, max_bytes: int = MAX_FILE_BYTES) -> Iterator[bytes]:
    """Yield a file's bytes, one leaf at a time; every block is verified before it is used.

    Raises `BlockCorruptError` when the tree is not the one our profile builds or is larger than
    `max_bytes`, which is found before any leaf is fetched; and what `blocks.get` raises.
    """
    if cid.codec == RAW:
        data = blocks.get(cid)
        if len(data) > min(max_bytes, UNIXFS_V1_2025.chunk_bytes):
            raise BlockCorruptError(f"{cid}: a leaf of {len(data)} bytes", cid=str(cid))
        yield data
        return
    size = _message(_node(blocks, cid), Kind.FILE, cid).size or 0
    if not UNIXFS_V1_2025.chunk_bytes < size <= max_bytes:
        raise BlockCorruptError(f"{cid}: a tree of {size} bytes, limit {max_bytes}", cid=str(cid))
    yield from _read(blocks, cid, size, _depth(size))


def list_dir(blocks: BlockStore, cid: Cid) -> tuple[Entry, ...]:
    """Return a directory's entries in order of their names' bytes, HAMT or not.

    Raises `BlockCorruptError` when it is no directory, has more than a million entries, or is
    not exactly what our profile builds from its entries; and what `blocks.get` raises.
    """
    root = _node(blocks, cid)
    listed: Iterable[Entry] = root.links
    if UnixfsData.decode(root.data).kind == Kind.SHARD:
        listed = hamt.entries(root, lambda link: _shard(blocks, link.cid))
    else:
        _message(root, Kind.DIRECTORY, cid)
    entries: list[Entry] = []
    for entry in listed:
        entries.append(entry)
        if len(entries) > MAX_ENTRIES:
            raise BlockCorruptError(f"{cid}: more than {MAX_ENTRIES} entries", cid=str(cid))
    entries.sort(key=lambda entry: entry.name.encode())
    try:
        rebuilt = dir_cid(entries)
    except FileRefusedError as error:
        raise BlockCorruptError(f"{cid}: {error}", cid=str(cid)) from error
    if rebuilt != cid:
        raise BlockCorruptError(f"{cid}: its entries make {rebuilt}", cid=str(cid))
    return tuple(entries)


def _read(blocks: BlockStore, cid: Cid, size: int, depth: int) -> Iterator[bytes]:
    if depth == 0:
        data = blocks.get(cid)
        if cid.codec != RAW or len(data) != size:
            raise BlockCorruptError(
                f"{cid}: not the leaf of {size} bytes it should be", cid=str(cid)
            )
        yield data
        return
    node = _node(blocks, cid)
    message = _message(node, Kind.FILE, cid)
    sizes = _sizes(size, depth)
    links = [("", _tsize(below, depth - 1)) for below in sizes]
    fits = message.size == size and message.sizes == sizes
    if not fits or [(link.name, link.tsize) for link in node.links] != links:
        raise BlockCorruptError(f"{cid}: not the tree of {size} bytes it should be", cid=str(cid))
    for link, below in zip(node.links, sizes, strict=True):
        yield from _read(blocks, link.cid, below, depth - 1)


def _sizes(size: int, depth: int) -> tuple[int, ...]:
    """Bytes below each link of a node over `size` bytes, that many levels above the leaves."""
    full, rest = divmod(size, _span(depth - 1))
    return (_span(depth - 1),) * full + ((rest,) if rest else ())


@lru_cache(maxsize=4096)
def _tsize(size: int, depth: int) -> int:
    """Bytes of all blocks of a subtree."""
    if depth == 0:
        return size
    unnamed = Cid(RAW, bytes(32))
    below = [Subtree(unnamed, part, _tsize(part, depth - 1)) for part in _sizes(size, depth)]
    return UnixfsBuilder().parent(below).tsize


def _depth(size: int) -> int:
    """Levels above the leaves of a file."""
    depth = 0
    while size > _span(depth):
        depth += 1
    return depth


def _span(depth: int) -> int:
    """Bytes below a full node that many levels above the leaves."""
    span = UNIXFS_V1_2025.chunk_bytes
    for _ in range(depth):
        span *= UNIXFS_V1_2025.max_links
    return span


def _node(blocks: BlockStore, cid: Cid) -> Node:
    if cid.codec != DAG_PB:
        raise BlockCorruptError(f"{cid} is a leaf where a node should be", cid=str(cid))
    return dag_pb.decode(blocks.get(cid))


def _shard(blocks: BlockStore, cid: Cid) -> Node:
    node = _node(blocks, cid)
    if UnixfsData.decode(node.data).kind != Kind.SHARD:
        raise BlockCorruptError(f"{cid} is not a shard", cid=str(cid))
    return node


def _message(node: Node, kind: Kind, cid: Cid) -> UnixfsData:
    message = UnixfsData.decode(node.data)
    if message.kind != kind or message.data or message.hash_type is not None:
        raise BlockCorruptError(f"{cid} is not a {kind.name.lower()} of our profile", cid=str(cid))
    return message


def _check_names(ordered: Sequence[Entry]) -> None:
    for before, entry in zip((None, *ordered), ordered, strict=False):
        if entry.name in ("", ".", "..") or "/" in entry.name or "\0" in entry.name:
            raise FileRefusedError(repr(entry.name), "is not a name in a directory")
        if before is not None and before.name == entry.name:
            raise FileRefusedError(entry.name, "stands twice in one directory")
