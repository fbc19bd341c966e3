"""Row 9: a CID that is not its manifest's, CIDs of other kinds, gateways that lie.

The gateways are real servers on loopback. Whatever they send is hashed here.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.errors import BlockStoreError, WeightproofError
from registry.hashing.dataset import HashedFile, root_of
from registry.ipfs import dag_pb
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.ipfs.profile import LEGACY_V1
from registry.ipfs.unixfs import Subtree, UnixfsBuilder, file_cid
from registry.ipfs.unixfs_data import Kind, UnixfsData
from tests.attacks import hostile_gateway
from tests.attacks.hall import Case, Hall
from tests.attacks.hostile_gateway import Lie, behind, gateway
from tests.attacks.registered_victim import block_file, folder_of, manifest_for
from tests.attacks.victim import FIRST_SHARD, README

pytestmark = pytest.mark.timeout(120)
MANIFEST = r"step 2 \(manifest\): .*"
# Exchanges are bounded by a second; a model has some ten blocks, and processors are busy.
SECONDS = 20.0


@pytest.fixture
def manifest(hall: Hall, folder: Path) -> dict[str, Any]:
    return manifest_for(hall, folder)


def manifest_cid(hall: Hall, case: Case) -> Cid:
    return Cid(RAW, hall.workspace.records.record(case.id).manifest_digest)


def cid_of(case: Case, name: str) -> Cid:
    return file_cid([(folder_of(case) / name).read_bytes()])[0]


# The digest on chain and the manifest


def test_a_manifest_block_that_holds_another_manifest_is_refused(hall: Hall, victim: Case) -> None:
    """A good manifest, canonical and recorded by itself, but not the one this record names."""
    path = block_file(hall, manifest_cid(hall, victim))
    true = path.read_bytes()
    try:
        path.write_bytes(block_file(hall, manifest_cid(hall, hall.good)).read_bytes())
        hall.refuses(victim, f"manifest.*other bytes under {manifest_cid(hall, victim)}")
    finally:
        path.write_bytes(true)


def test_a_digest_on_chain_that_is_a_file_and_no_manifest_is_refused(
    hall: Hall, victim: Case
) -> None:
    config = (folder_of(victim) / "config.json").read_bytes()
    hall.refuses(Case(hall.publish(config), victim.folder), MANIFEST)


def test_a_manifest_kept_as_a_node_of_a_tree_is_not_found(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    """The chain's digest names a raw block: the same digest as dag-pb is another name."""
    id = hall.publish({**manifest, "name": "as a node"}, stored=False)
    digest = hall.workspace.records.record(id).manifest_digest
    store = hall.config.parent / ".weightproof/blocks"
    name = str(Cid(DAG_PB, digest))
    (store / name[-3:-1]).mkdir(exist_ok=True)
    (store / name[-3:-1] / name).write_bytes(b"whatever")
    hall.refuses(Case(id, folder), MANIFEST + "is not in")


# CIDs of other kinds, in the manifest


def other_texts(cid: Cid) -> dict[str, str]:
    """Return the same digest written in ways that other software reads."""
    sha256 = b"\x12\x20" + cid.digest
    return {
        "CIDv0": "Qm" + "a" * 44,
        "base16": "f" + (b"\x01\x55" + sha256).hex(),
        "base58": "z" + "a" * 48,
        "base64url": "u" + base64.urlsafe_b64encode(b"\x01\x55" + sha256).decode().rstrip("="),
        "upper case": "B" + str(cid)[1:].upper(),
        "mixed case": str(cid)[:9] + str(cid)[9:].upper(),
        "padded": str(cid) + "======",
        "a path": f"/ipfs/{cid}",
        "a URL": f"ipfs://{cid}",
        "a space": f"{cid} ",
        "identity": text(b"\x01\x55\x00\x06attack"),
        "identity of no bytes": "bafkqaaa",
        "sha1": text(b"\x01\x55\x11\x14" + hashlib.sha1(b"x", usedforsecurity=False).digest()),
        "sha512": text(b"\x01\x55\x13\x40" + hashlib.sha512(b"x").digest()),
        "blake2b": text(b"\x01\x55\xa0\xe4\x02\x20" + hashlib.blake2b(b"x").digest()[:32]),
        "truncated digest": text(b"\x01\x55\x12\x10" + cid.digest[:16]),
        "dag-cbor": text(b"\x01\x71" + sha256),
        "dag-json": text(b"\x01\xa9\x02" + sha256),
        "git": text(b"\x01\x78" + sha256),
        "CIDv2": text(b"\x02\x55" + sha256),
        "non-minimal version": text(b"\x81\x00\x55" + sha256),
        "trailing byte": text(b"\x01\x55" + sha256 + b"\0"),
        "empty": "",
        "hexadecimal digest": cid.digest.hex(),
    }


def text(data: bytes) -> str:
    return "b" + base64.b32encode(data).decode().rstrip("=").lower()


@pytest.mark.parametrize("kind", other_texts(Cid(RAW, bytes(32))))
@pytest.mark.parametrize("where", ["a file", "the root"])
def test_a_cid_of_any_other_kind_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any], kind: str, where: str
) -> None:
    if where == "the root":
        manifest["root"] = other_texts(Cid.parse(manifest["root"]))[kind]
    else:
        file = manifest["files"][0]
        file["cid"] = other_texts(Cid.parse(file["cid"]))[kind]
    hall.refuses(Case(hall.publish(manifest), folder), MANIFEST + r"(cid|root): .*CID")


# Right CIDs of the wrong thing


def forge_file(
    hall: Hall, folder: Path, manifest: dict[str, Any], path: str, size: int, cid: Cid
) -> Case:
    """Record the manifest with one file changed or added, under the root that this makes."""
    files = {file["path"]: file for file in manifest["files"]}
    files[path] = {"path": path, "size": size, "cid": str(cid)}
    manifest["files"] = [files[name] for name in sorted(files)]
    manifest["root"] = str(
        root_of(HashedFile(f["path"], f["size"], Cid.parse(f["cid"])) for f in manifest["files"])
    )
    return Case(hall.publish(manifest), folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_recorded_under_the_cid_of_another_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any], name: str
) -> None:
    data = (folder / name).read_bytes()
    other = data[:-1] + bytes([data[-1] ^ 1])
    cid = hall.workspace.blocks.put(RAW, other)
    case = forge_file(hall, folder, manifest, name, len(data), cid)
    if name == "model.safetensors":
        # Its tensors decide, and the folder's are as recorded: the other block's are not.
        hall.refuses(Case(case.id, None), "does not hash to what the manifest lists", path=name)
        return
    hall.refuses(case, "has the CID", path=name)


def test_tensors_recorded_under_other_digests_are_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    manifest["tensors"][3]["digest"] = "0x" + "ab" * 32
    case = Case(hall.publish(manifest), folder)
    name = manifest["tensors"][3]["name"]
    for each in (case, Case(case.id, None)):
        hall.refuses(each, f"tensor {name} does not hash", path="model.safetensors")


def test_a_header_recorded_under_another_digest_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    manifest["headers"][0]["digest"] = "0x" + "ab" * 32
    case = Case(hall.publish(manifest), folder)
    for each in (case, Case(case.id, None)):
        hall.refuses(each, "its header is not the one", path="model.safetensors")


def test_a_root_that_its_files_do_not_make_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    manifest["root"] = str(Cid(DAG_PB, bytes(32)))
    hall.refuses(Case(hall.publish(manifest), folder), MANIFEST + "the files make the folder")


# Leaves that pose as trees, and trees as leaves


def test_a_tree_recorded_as_a_leaf_is_refused(
    hall: Hall, victim: Case, folder: Path, manifest: dict[str, Any]
) -> None:
    """The root of a tree is a block too: read as a leaf, its links would be the file."""
    true = (folder_of(victim) / README).read_bytes()
    (folder / README).write_bytes(true)
    tree = cid_of(victim, README)
    leaf = Cid(RAW, tree.digest)
    hall.workspace.blocks.put(RAW, hall.workspace.blocks.get(tree))
    case = forge_file(hall, folder, manifest, README, len(true), leaf)
    hall.refuses(case, f"has the CID {tree}, not {leaf}", path=README)
    hall.refuses(Case(case.id, None), "has .* bytes, not", path=README)


def test_a_leaf_recorded_as_a_tree_is_refused(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    """These bytes are a good leaf and a good node: only the codec says which file they are."""
    inner = hall.workspace.blocks.put(RAW, b"attack")
    message = UnixfsData(Kind.FILE, size=6, sizes=(6,)).encode()
    node = dag_pb.encode(dag_pb.Node((dag_pb.Link("", inner, 6),), message))
    hall.workspace.blocks.put(RAW, node)
    tree = hall.workspace.blocks.put(DAG_PB, node)
    (folder / README).write_bytes(node)
    case = forge_file(hall, folder, manifest, README, len(node), tree)
    hall.refuses(case, "has the CID", path=README)
    hall.refuses(Case(case.id, None), f"{tree}: a tree of 6 bytes")


def small_chunks(data: bytes, sink: MemoryBlockStore) -> Cid:
    return file_cid([data], sink=sink, profile=LEGACY_V1)[0]


def unbalanced(data: bytes, sink: MemoryBlockStore) -> Cid:
    """One leaf beside a node of one leaf."""
    builder = UnixfsBuilder(sink)
    first, second = builder.leaf(data[: 1 << 20]), builder.leaf(data[1 << 20 :])
    return builder.parent([first, builder.parent([second])]).cid


def inline(data: bytes, sink: MemoryBlockStore) -> Cid:
    """The end of the file inside the node itself."""
    leaf = UnixfsBuilder(sink).leaf(data[: 1 << 20])
    message = UnixfsData(Kind.FILE, data[1 << 20 :], size=len(data), sizes=(1 << 20,))
    links = (dag_pb.Link("", leaf.cid, leaf.tsize),)
    return sink.put(DAG_PB, dag_pb.encode(dag_pb.Node(links, message.encode())))


def named_links(data: bytes, sink: MemoryBlockStore) -> Cid:
    builder = UnixfsBuilder(sink)
    leaves = [builder.leaf(data[: 1 << 20]), builder.leaf(data[1 << 20 :])]
    sizes = tuple(leaf.size for leaf in leaves)
    message = UnixfsData(Kind.FILE, size=sum(sizes), sizes=sizes).encode()
    links = tuple(dag_pb.Link("x", leaf.cid, leaf.tsize) for leaf in leaves)
    return sink.put(DAG_PB, dag_pb.encode(dag_pb.Node(links, message)))


def wrong_block_bytes(data: bytes, sink: MemoryBlockStore) -> Cid:
    """Links that misstate how many bytes lie below them, which nobody needs to read the file."""
    builder = UnixfsBuilder(sink)
    leaves = [builder.leaf(data[: 1 << 20]), builder.leaf(data[1 << 20 :])]
    return builder.parent([replace(leaf, tsize=leaf.tsize + 1) for leaf in leaves]).cid


def wrong_sum(data: bytes, sink: MemoryBlockStore) -> Cid:
    builder = UnixfsBuilder(sink)
    first, second = builder.leaf(data[: 1 << 20]), builder.leaf(data[1 << 20 :])
    lying = Subtree(second.cid, second.size + 1, second.tsize)
    return builder.parent([first, lying]).cid


def a_directory(data: bytes, sink: MemoryBlockStore) -> Cid:
    leaf = UnixfsBuilder(sink).leaf(data[:9])
    return UnixfsBuilder(sink).directory([dag_pb.Link("x", leaf.cid, leaf.tsize)]).cid


@pytest.mark.parametrize(
    "tree",
    [small_chunks, unbalanced, inline, named_links, wrong_block_bytes, wrong_sum, a_directory],
)
def test_a_tree_of_another_shape_over_the_right_bytes_is_refused(
    hall: Hall,
    victim: Case,
    folder: Path,
    manifest: dict[str, Any],
    tree: Callable[[bytes, MemoryBlockStore], Cid],
) -> None:
    """Otherwise one file would have many CIDs, and two readers could read two files from one."""
    data = (folder_of(victim) / README).read_bytes()
    (folder / README).write_bytes(data)
    made = MemoryBlockStore()
    cid = tree(data, made)
    for each, block in made._blocks.items():
        hall.workspace.blocks.put(each.codec, block)
    case = forge_file(hall, folder, manifest, README, len(data), cid)
    hall.refuses(case, "has the CID", path=README)
    refusal = hall.refuses(Case(case.id, None), r"step 6 \(files\): .*")
    assert any(str(each) in refusal.text for each in made._blocks)


def available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def test_a_file_made_of_one_block_over_and_over_is_refused_before_it_fills_the_memory(
    hall: Hall, folder: Path, manifest: dict[str, Any]
) -> None:
    """A publisher stores two megabytes, and has everybody who loads the model copy gigabytes.

    Each block, each node and the size are right, the policy allows that much: it is a README.
    """
    count = min(available_bytes(), 60 << 30) // (1 << 20) + 1024
    blocks = hall.workspace.blocks
    builder = UnixfsBuilder(blocks)
    leaf = builder.leaf(bytes(1 << 20))
    cid = builder.tree([leaf] * count).cid
    case = forge_file(hall, folder, manifest, README, count << 20, cid)
    read = 0

    def hook(size: int) -> None:
        nonlocal read
        read += size
        assert read < 256 << 20, "a README of any size is copied into memory"

    with pytest.raises(WeightproofError, match=f"{README}: has .* bytes: all files but the"):
        hall.workspace.verify(case.id, progress=hook)
    hall.refuses(Case(case.id, None), README, seconds=SECONDS)


# Gateways

LIES: dict[Lie, str] = {
    hostile_gateway.other_bytes: "other bytes under",
    hostile_gateway.html: "'text/html'.* has other bytes under",
    hostile_gateway.html_as_a_block: "other bytes under",
    hostile_gateway.nothing: "other bytes under",
    hostile_gateway.one_byte_more: "other bytes under|over 2 MiB",
    hostile_gateway.one_byte_less: "other bytes under",
    hostile_gateway.cut_off: "closed connection|incomplete|peer closed",
    hostile_gateway.endless: "more than 2097152 bytes",
    hostile_gateway.endless_chunks: "more than 2097152 bytes",
    hostile_gateway.endless_headers: "header|no answer within|receive buffer|too",
    hostile_gateway.slow: "no answer within 1 s",
    hostile_gateway.slow_headers: "no answer within 1 s",
    hostile_gateway.silent: "no answer within 1 s",
    hostile_gateway.gzip_bomb: "other bytes under|more than 2097152 bytes",
    hostile_gateway.compressed: "other bytes under",
    hostile_gateway.redirect: "answered 302",
    hostile_gateway.failure: "answered 500",
}
BLOCKS = ("the manifest", "config.json", FIRST_SHARD, README)


def block_named(hall: Hall, victim: Case, what: str) -> Cid:
    return manifest_cid(hall, victim) if what == "the manifest" else cid_of(victim, what)


@pytest.mark.parametrize("what", BLOCKS)
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_gateway_that_does_not_send_the_block_is_not_believed(
    hall: Hall, victim: Case, tmp_path: Path, lie: Lie, what: str
) -> None:
    cid = block_named(hall, victim, what)
    with gateway(hall.workspace.blocks, {str(cid): lie}) as (origin, asked):
        here = behind(hall, tmp_path / "store", origin)
        refusal = here.refuses_here(
            Case(victim.id, None), LIES[lie], path=str(cid), seconds=SECONDS, growth_mb=60
        )
        assert ("step 2" if what == "the manifest" else "step 6") in refusal.text
        assert refusal.text.isprintable()
        assert str(cid) in asked
    # What was refused was not kept either.
    assert not here.workspace.config.store.folder.joinpath(str(cid)[-3:-1], str(cid)).exists()


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_second_gateway_makes_good_what_the_first_one_spoils(
    hall: Hall, victim: Case, tmp_path: Path, lie: Lie
) -> None:
    cid = cid_of(victim, "config.json")
    blocks = hall.workspace.blocks
    with (
        gateway(blocks, {str(cid): lie}) as (bad, _),
        gateway(blocks, {}) as (good, asked),
    ):
        behind(hall, tmp_path / "store", bad, good).accepts(Case(victim.id, None))
        assert asked == [str(cid)]


def test_a_gateway_that_sends_another_block_of_the_same_model_is_not_believed(
    hall: Hall, victim: Case, tmp_path: Path
) -> None:
    """Good blocks under each other's names, as a swap of two files would look from outside."""
    pair = [cid_of(victim, name) for name in ("config.json", "generation_config.json")]
    bodies = [hall.workspace.blocks.get(cid) for cid in pair]
    lies: dict[str, Lie] = {
        str(pair[0]): lambda handler, _: handler.reply(bodies[1]),
        str(pair[1]): lambda handler, _: handler.reply(bodies[0]),
    }
    with gateway(hall.workspace.blocks, lies) as (origin, _):
        behind(hall, tmp_path / "store", origin).refuses_here(
            Case(victim.id, None), f"other bytes under {pair[0]}"
        )


def test_a_damaged_block_at_home_is_fetched_again_and_mended(
    hall: Hall, victim: Case, tmp_path: Path
) -> None:
    cid = cid_of(victim, "tokenizer.json")
    with gateway(hall.workspace.blocks, {}) as (origin, asked):
        here = behind(hall, tmp_path / "store", origin)
        here.accepts(Case(victim.id, None))
        (path,) = (tmp_path / "store").glob(f"*/{cid}")
        true = path.read_bytes()
        path.write_bytes(os.urandom(len(true)))
        asked.clear()
        here.accepts(Case(victim.id, None))
        assert asked == [str(cid)]
        assert path.read_bytes() == true


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("/dev/null"),
        lambda path: path.symlink_to(path),
        os.mkfifo,
        Path.mkdir,
    ],
    ids=["endless device", "empty device", "link to itself", "FIFO", "folder"],
)
def test_a_block_at_home_that_is_no_plain_file_is_refused_and_nobody_waits_for_it(
    hall: Hall, victim: Case, make: Callable[[Path], object]
) -> None:
    cid = cid_of(victim, "config.json")
    path = block_file(hall, cid)
    away = path.with_suffix(".away")
    path.rename(away)
    make(path)
    try:
        hall.refuses(Case(victim.id, None), f"{cid} cannot be read", seconds=SECONDS)
        with pytest.raises(BlockStoreError, match=f"{cid} cannot be written"):
            hall.workspace.blocks.put(RAW, away.read_bytes())
    finally:
        (path.rmdir if path.is_dir() else path.unlink)()
        away.rename(path)


def test_a_block_at_home_may_be_a_link_because_its_bytes_are_hashed(
    hall: Hall, victim: Case, tmp_path: Path
) -> None:
    path = block_file(hall, cid_of(victim, "config.json"))
    away = tmp_path / "elsewhere"
    away.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(away)
    try:
        hall.accepts(Case(victim.id, None))
        away.write_bytes(b"{}")
        hall.refuses(Case(victim.id, None), "other bytes under")
    finally:
        path.unlink()
        hall.workspace.blocks.put(RAW, (folder_of(victim) / "config.json").read_bytes())


def test_an_honest_gateway_is_enough(hall: Hall, victim: Case, tmp_path: Path) -> None:
    with gateway(hall.workspace.blocks, {}) as (origin, _):
        behind(hall, tmp_path / "store", origin).accepts(Case(victim.id, None))
