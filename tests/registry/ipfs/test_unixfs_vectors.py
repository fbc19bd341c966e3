"""Every published vector, among them two of a gigabyte that are streamed."""

from __future__ import annotations

from typing import Any

import pytest

from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.profile import UNIXFS_V1_2025
from registry.ipfs.unixfs import Entry, Subtree, UnixfsBuilder, list_dir, read_file, tsize_of
from tests.registry.ipfs.vectors import CONTENTS, PROFILES, VECTORS, keystream, names, text

SIMPLE = [
    (name, profile, cid)
    for name, by_profile in VECTORS["simple"].items()
    for profile, cid in by_profile.items()
]


def simple(name: str, builder: UnixfsBuilder) -> Subtree:
    if name in CONTENTS:
        return builder.file([CONTENTS[name]])
    if name == "emptydir":
        return builder.directory([])
    assert name == "dir{a.txt:a,sub/b.txt:b}"
    inner, outer = builder.file([b"b"]), builder.file([b"a"])
    sub = builder.directory([Entry("b.txt", inner.cid, inner.tsize)])
    return builder.directory(
        [Entry("sub", sub.cid, sub.tsize), Entry("a.txt", outer.cid, outer.tsize)]
    )


@pytest.mark.parametrize(("name", "profile", "cid"), SIMPLE)
def test_a_simple_vector_gets_its_cid(name: str, profile: str, cid: str) -> None:
    built = simple(name, UnixfsBuilder(profile=PROFILES[profile]))
    assert text(built.cid, PROFILES[profile]) == cid


@pytest.mark.parametrize(
    "vector", VECTORS["ipip499"]["files"], ids=lambda v: f"{v['profile']}-{v['size']}"
)
def test_a_published_file_gets_its_cid(vector: dict[str, Any]) -> None:
    profile = PROFILES[vector["profile"]]
    built = UnixfsBuilder(profile=profile).file(keystream(vector["seed"], vector["size"]))
    assert built.size == vector["size"]
    assert text(built.cid, profile) == vector["cid"]
    if profile is UNIXFS_V1_2025:
        assert tsize_of(built.size) == built.tsize


@pytest.mark.parametrize(
    "case", VECTORS["ipip499"]["dirs"]["cases"], ids=lambda c: f"{c['profile']}-{c['kind']}"
)
def test_a_published_directory_gets_its_cid_and_lists_its_names(case: dict[str, Any]) -> None:
    profile = PROFILES[case["profile"]]
    blocks = MemoryBlockStore()
    builder = UnixfsBuilder(blocks, profile)
    file = builder.file([b"x"])
    built = builder.directory([Entry(name, file.cid, file.tsize) for name in names(case)])
    assert text(built.cid, profile) == case["cid"]
    if profile is UNIXFS_V1_2025:
        assert [entry.name for entry in list_dir(blocks, built.cid)] == sorted(names(case))


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_of_our_profile_reads_back(name: str) -> None:
    blocks = MemoryBlockStore()
    built = UnixfsBuilder(blocks).file([CONTENTS[name]])
    assert b"".join(read_file(blocks, built.cid)) == CONTENTS[name]
