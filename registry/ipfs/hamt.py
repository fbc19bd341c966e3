"""HAMT directories: a directory too big for one block, spread over a tree of shards.

Eight bits of the hash of an entry's name choose one of 256 slots; entries that share a slot move
into a shard below it, which looks at the next eight bits.
Source: https://specs.ipfs.tech/unixfs/#hamtdirectory
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from registry.errors import BlockCorruptError
from registry.ipfs.dag_pb import Link, Node
from registry.ipfs.murmur3 import MULTICODEC, murmur3_x64_64
from registry.ipfs.unixfs_data import Kind, UnixfsData

FANOUT: Final = 256
# Slots are written as two hexadecimal digits before the name.
_PREFIX: Final = 2
# One level uses one byte of an eight-byte hash.
MAX_DEPTH: Final = 8


def build(entries: Sequence[Link], store: Callable[[Node], Link], *, depth: int = 0) -> Link:
    """Return the unnamed link to the shard that holds `entries`; `store` keeps each node.

    Raises `BlockCorruptError` when names collide in all 64 bits, which no tree can hold.
    """
    if depth == MAX_DEPTH:
        raise BlockCorruptError(f"HAMT: names {[e.name for e in entries[:2]]} share one hash")
    slots: dict[int, list[Link]] = defaultdict(list)
    for entry in entries:
        slots[murmur3_x64_64(entry.name.encode())[depth]].append(entry)
    links = []
    bits = 0
    for slot, inside in sorted(slots.items()):
        bits |= 1 << slot
        child = inside[0] if len(inside) == 1 else build(inside, store, depth=depth + 1)
        links.append(Link(f"{slot:02X}{child.name}", child.cid, child.tsize))
    field = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    message = UnixfsData(Kind.SHARD, field, hash_type=MULTICODEC, fanout=FANOUT)
    return store(Node(tuple(links), message.encode()))


def entries(root: Node, fetch: Callable[[Link], Node]) -> Iterator[Link]:
    """Yield the entries below a shard, unordered. `fetch` loads the node a link leads to.

    Only the depth is checked here: the caller builds the directory again and compares CIDs.
    """
    yield from _below(root, fetch, depth=0)


def _below(node: Node, fetch: Callable[[Link], Node], *, depth: int) -> Iterator[Link]:
    if depth == MAX_DEPTH:
        raise BlockCorruptError(f"HAMT: deeper than {MAX_DEPTH} shards")
    for link in node.links:
        if len(link.name) == _PREFIX:
            yield from _below(fetch(link), fetch, depth=depth + 1)
        else:
            yield Link(link.name[_PREFIX:], link.cid, link.tsize)
