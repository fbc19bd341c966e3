"""Profiles: the choices that decide which CID a file or directory gets.

The product uses `UNIXFS_V1_2025` everywhere. The other two exist so that our builder can be
compared with older importers; no CID of theirs is read.
Source: IPIP-499, https://specs.ipfs.tech/ipips/ipip-0499/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Profile:
    """How bytes become blocks.

    `chunk_bytes` is the size of every leaf but the last, `max_links` the width of a file's tree.
    A directory becomes a HAMT when it is over `shard_over_bytes`, measured as its block's length
    or, with `estimate_by_links`, as the bytes of its names and link hashes.
    """

    name: str
    chunk_bytes: int
    max_links: int
    raw_leaves: bool = True
    cid_version: int = 1
    shard_over_bytes: int = 256 * KIB
    estimate_by_links: bool = False


UNIXFS_V1_2025: Final = Profile("unixfs-v1-2025", chunk_bytes=MIB, max_links=1024)
# `ipfs add --cid-version=1` of Kubo before the profiles.
LEGACY_V1: Final = Profile(
    "v1-raw-256k", chunk_bytes=256 * KIB, max_links=174, estimate_by_links=True
)
# `ipfs add` of Kubo before the profiles.
UNIXFS_V0_2015: Final = Profile(
    "unixfs-v0-2015",
    chunk_bytes=256 * KIB,
    max_links=174,
    raw_leaves=False,
    cid_version=0,
    estimate_by_links=True,
)
