"""Blocks and files exchanged with a real, unmodified js-ipfs node, in both directions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from registry.errors import BlockCorruptError, BlockMissingError
from registry.hashing.dataset import hash_folder
from registry.ipfs.blockstore import LayeredBlockStore, MemoryBlockStore
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.ipfs.kubo import KuboBlockStore
from registry.ipfs.unixfs import file_cid, list_dir, read_file
from tests.peers.js_ipfs import JsIpfs

pytestmark = pytest.mark.peer
MIB = 1 << 20
PROFILE = {
    "chunker": "size-1048576",
    "raw-leaves": "true",
    "cid-version": "1",
    "cid-base": "base32",
}
SIZES = [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17]


@pytest.fixture
def kubo(js_ipfs: JsIpfs) -> Iterator[KuboBlockStore]:
    with closing(KuboBlockStore(js_ipfs.rpc, timeout_s=10)) as store:
        yield store


def content(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def rpc(node: JsIpfs, path: str, **options: Any) -> httpx.Response:
    """Call the node as any other program would."""
    port = node.rpc.rsplit("/", 1)[1]
    url = f"http://127.0.0.1:{port}/api/v0/{path}"
    response = httpx.post(url, timeout=30, trust_env=False, **options)
    response.raise_for_status()
    return response


def test_a_block_that_nobody_has_is_missing_after_the_timeout(js_ipfs: JsIpfs) -> None:
    absent = Cid.of_block(RAW, b"nobody has this")
    with closing(KuboBlockStore(js_ipfs.rpc, timeout_s=0.7)) as kubo:
        with pytest.raises(BlockMissingError) as caught:
            kubo.get(absent)
        assert caught.value.cid == str(absent)
        assert not kubo.has(absent)
        with pytest.raises(BlockMissingError):
            kubo.pin(absent)


def test_a_block_damaged_in_the_nodes_repository_is_refused(
    js_ipfs: JsIpfs, kubo: KuboBlockStore
) -> None:
    cid = kubo.put(RAW, b"soon damaged")
    name = base64.b32encode(cid.multihash).decode().rstrip("=")
    js_ipfs.block_file(name).write_bytes(b"soon damageD")
    with pytest.raises(BlockCorruptError):
        kubo.get(cid)


@pytest.mark.parametrize("data", [b"", b"x", content(MIB)], ids=len)
def test_a_raw_block_goes_there_and_comes_back(
    js_ipfs: JsIpfs, kubo: KuboBlockStore, data: bytes
) -> None:
    cid = kubo.put(RAW, data)
    assert kubo.has(cid)
    assert kubo.get(cid) == data
    assert rpc(js_ipfs, "block/get", params={"arg": str(cid)}).content == data


def test_a_file_of_ours_is_read_by_the_node_as_the_same_file(
    js_ipfs: JsIpfs, kubo: KuboBlockStore
) -> None:
    data = content(3 * MIB + 5)
    cid, _ = file_cid([data], sink=kubo)
    assert cid.codec == DAG_PB
    kubo.pin(cid)
    assert rpc(js_ipfs, "cat", params={"arg": str(cid)}).content == data


@pytest.mark.parametrize("size", SIZES)
def test_a_file_added_by_the_node_has_our_cid_and_reads_back(
    js_ipfs: JsIpfs, kubo: KuboBlockStore, size: int
) -> None:
    data = content(size)
    added = rpc(js_ipfs, "add", params=PROFILE, files={"file": data}).json()
    cid, _ = file_cid([data])
    assert added["Hash"] == str(cid)
    assert b"".join(read_file(kubo, cid)) == data


def test_a_folder_of_ours_is_listed_by_the_node_and_by_us_through_it(
    js_ipfs: JsIpfs, kubo: KuboBlockStore, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "sub" / "b.bin").write_bytes(content(MIB + 1))
    root = hash_folder(tmp_path, sink=kubo).root
    (listed,) = rpc(js_ipfs, "ls", params={"arg": str(root)}).json()["Objects"]
    assert [link["Name"] for link in listed["Links"]] == ["a.txt", "sub"]
    found = rpc(js_ipfs, "cat", params={"arg": f"{root}/sub/b.bin"}).content
    assert found == content(MIB + 1)
    local = MemoryBlockStore()
    through = LayeredBlockStore([local, kubo])
    assert [entry.name for entry in list_dir(through, root)] == ["a.txt", "sub"]
    assert local.has(root)
