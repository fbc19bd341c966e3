"""dag-pb: blocks that link to other blocks.

A node is encoded with its links before its data and every link with hash, name and tsize, as
Kubo does; `decode` refuses every other encoding of the same node.
Source: https://ipld.io/specs/codecs/dag-pb/spec/
"""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import BlockCorruptError, CidError
from registry.ipfs.cid import Cid
from registry.ipfs.protobuf import bytes_field, fields, varint_field


@dataclass(frozen=True, slots=True)
class Link:
    """One link: `tsize` is the bytes of the block linked to and of all blocks below it."""

    name: str
    cid: Cid
    tsize: int


@dataclass(frozen=True, slots=True)
class Node:
    """One dag-pb block: its links in order and its data (a UnixFS message)."""

    links: tuple[Link, ...]
    data: bytes


def encode(node: Node, *, cid_version: int = 1) -> bytes:
    """Return the block of a node. With `cid_version` 0 the links are bare multihashes."""
    links = b"".join(bytes_field(2, _encode_link(link, cid_version)) for link in node.links)
    return links + bytes_field(1, node.data)


def decode(block: bytes) -> Node:
    """Return the node of a block. Raises `BlockCorruptError` when it is not canonical dag-pb."""
    links: list[Link] = []
    data = b""
    for number, value in fields(block):
        if number == 2 and isinstance(value, bytes):
            links.append(_decode_link(value))
        elif number == 1 and isinstance(value, bytes):
            data = value
        else:
            raise BlockCorruptError(f"dag-pb: unknown field {number}")
    node = Node(tuple(links), data)
    if encode(node) != block:
        raise BlockCorruptError("dag-pb: not the canonical encoding of its node")
    return node


def _encode_link(link: Link, cid_version: int) -> bytes:
    hash_bytes = link.cid.to_bytes() if cid_version else link.cid.multihash
    name = link.name.encode()
    return bytes_field(1, hash_bytes) + bytes_field(2, name) + varint_field(3, link.tsize)


def _decode_link(message: bytes) -> Link:
    found = dict(fields(message))
    hash_bytes, name, tsize = found.get(1), found.get(2), found.get(3)
    if not (isinstance(hash_bytes, bytes) and isinstance(name, bytes) and isinstance(tsize, int)):
        raise BlockCorruptError("dag-pb: a link lacks hash, name or tsize")
    try:
        return Link(name.decode(), Cid.from_bytes(hash_bytes), tsize)
    except UnicodeDecodeError as error:
        raise BlockCorruptError("dag-pb: the name of a link is not UTF-8") from error
    except CidError as error:
        raise BlockCorruptError(f"dag-pb: a link leads to {error}") from error
