"""Row 4: a missing or truncated file, a shard of no bytes, a file longer than it says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from registry.ipfs.cid import RAW, Cid
from registry.ipfs.unixfs import MAX_FILE_BYTES
from tests.attacks.hall import Case, Hall
from tests.attacks.registered_victim import block_file, folder_of, manifest_for
from tests.attacks.victim import FILES, FIRST_SHARD, README, SECOND_SHARD

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(hall: Hall, spoilt: Case, name: str) -> None:
    (folder_of(spoilt) / name).unlink()
    hall.refuses(spoilt, "is missing", path=name)


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("name", FILES)
def test_a_file_shorter_or_longer_by_a_byte_is_refused(
    hall: Hall, spoilt: Case, name: str, change: int
) -> None:
    path = folder_of(spoilt) / name
    os.truncate(path, path.stat().st_size + change)
    hall.refuses_here(spoilt, "bytes, the manifest says", path=name)


@pytest.mark.parametrize("shard", [FIRST_SHARD, SECOND_SHARD])
def test_a_shard_cut_off_within_header_or_weights_is_refused(
    hall: Hall, spoilt: Case, shard: str
) -> None:
    path = folder_of(spoilt) / shard
    for size in (path.stat().st_size // 2, 100, 8, 7):
        os.truncate(path, size)
        hall.refuses_here(spoilt, "bytes, the manifest says", path=shard)


@pytest.mark.parametrize("shard", [FIRST_SHARD, SECOND_SHARD])
def test_a_shard_of_no_bytes_is_refused(hall: Hall, spoilt: Case, shard: str) -> None:
    (folder_of(spoilt) / shard).write_bytes(b"")
    hall.refuses(spoilt, "has 0 bytes, the manifest says", path=shard)


@pytest.mark.parametrize("name", ["config.json", FIRST_SHARD])
def test_a_file_of_a_tebibyte_is_refused_without_being_read(
    hall: Hall, spoilt: Case, name: str
) -> None:
    os.truncate(folder_of(spoilt) / name, 1 << 40)
    hall.refuses(spoilt, "has 1099511627776 bytes", path=name, seconds=10, growth_mb=20)


def test_a_folder_that_is_missing_empty_or_no_folder_is_refused(
    hall: Hall, victim: Case, spoilt: Case, tmp_path: Path
) -> None:
    folder = folder_of(spoilt)
    shutil.rmtree(folder)
    hall.refuses(spoilt, "is not a readable folder", path=str(folder))
    folder.mkdir()
    hall.refuses(spoilt, "is an empty folder", path=str(folder))
    folder.rmdir()
    folder.write_bytes(b"I am a file")
    hall.refuses(spoilt, "is not a readable folder", path=str(folder))


# What the manifest says of sizes may be wrong too


@pytest.mark.parametrize("change", [-1, 1, 4096])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_manifest_that_declares_another_size_is_refused(
    hall: Hall, folder: Path, name: str, change: int
) -> None:
    case = forge_sizes(hall, folder, {name: (folder / name).stat().st_size + change})
    hall.refuses(case, "files make the folder|bytes", path=name if change > 0 else None)


def test_a_manifest_that_declares_no_bytes_for_a_shard_is_refused(hall: Hall, folder: Path) -> None:
    hall.refuses(forge_sizes(hall, folder, {"model.safetensors": 0}), "does not fit into|bytes")


@pytest.mark.parametrize("size", [MAX_FILE_BYTES + 1, 2**53 - 1])
def test_a_manifest_that_declares_more_than_any_file_has_is_refused(
    hall: Hall, folder: Path, size: int
) -> None:
    case = forge_sizes(hall, folder, {"config.json": size})
    hall.refuses(case, r"manifest.*bytes is not within", seconds=10)


def test_a_manifest_that_declares_more_than_the_policy_allows_is_refused_before_reading(
    hall: Hall, folder: Path
) -> None:
    case = forge_sizes(hall, folder, {"LICENSE": 65 << 30})
    hall.refuses(case, "the policy allows", seconds=10, growth_mb=20)


# Blocks


def test_a_block_that_is_gone_cut_off_empty_or_longer_is_refused(hall: Hall, victim: Case) -> None:
    leaf = Cid.of_block(RAW, (folder_of(victim) / README).read_bytes()[: 1 << 20])
    for cid in (leaf, Cid.of_block(RAW, (folder_of(victim) / FIRST_SHARD).read_bytes())):
        path = block_file(hall, cid)
        true = path.read_bytes()
        try:
            for bytes_there in (true[:-1], b"", true + b"\0", true * 3):
                path.write_bytes(bytes_there)
                hall.refuses(Case(victim.id, None), f"{cid}")
            path.unlink()
            hall.refuses(Case(victim.id, None), f"{cid} is not in")
        finally:
            hall.workspace.blocks.put(RAW, true)
    hall.accepts(Case(victim.id, None))


def test_a_block_file_of_a_tebibyte_is_refused_without_being_read(hall: Hall, victim: Case) -> None:
    data = (folder_of(victim) / "config.json").read_bytes()
    cid = Cid.of_block(RAW, data)
    path = block_file(hall, cid)
    try:
        os.truncate(path, 1 << 40)
        hall.refuses(Case(victim.id, None), f"has over 2 MiB under {cid}", seconds=10, growth_mb=40)
    finally:
        os.truncate(path, len(data))
        hall.workspace.blocks.put(RAW, data)


def test_a_manifest_that_nobody_has_is_refused(hall: Hall, folder: Path) -> None:
    manifest = {**manifest_for(hall, folder), "name": "kept back"}
    id = hall.publish(manifest, stored=False)
    hall.refuses(Case(id, folder), r"manifest.*is not in")


def forge_sizes(hall: Hall, folder: Path, sizes: dict[str, int]) -> Case:
    """Record the folder with other sizes than its files have, and whatever root they would make."""
    manifest = manifest_for(hall, folder)
    files = {entry["path"]: dict(entry) for entry in manifest["files"]}
    for path, size in sizes.items():
        files.setdefault(path, {"path": path, "cid": files["config.json"]["cid"]})["size"] = size
    manifest["files"] = [files[path] for path in sorted(files)]
    manifest["root"] = root_text(manifest["files"], manifest["root"])
    return Case(hall.publish(manifest), folder)


def root_text(files: list[dict[str, object]], otherwise: str) -> str:
    """Return the root that the entries make, or the old one where they cannot make any."""
    from registry.errors import WeightproofError
    from registry.hashing.dataset import HashedFile, root_of

    try:
        return str(root_of(HashedFile(f["path"], f["size"], Cid.parse(f["cid"])) for f in files))  # type: ignore[arg-type]
    except WeightproofError:
        return otherwise
