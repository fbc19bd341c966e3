"""Row 26: a dataset with rows or files twice, in another order, linked, or in another encoding.

A dataset is its bytes under the names of its files. Whoever trains on a folder asks whether it is
the recorded one; whoever hands its id to a node as a model gets nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.dataset_folder import verify_dataset
from registry.errors import FileRefusedError, WeightproofError
from registry.hashing.dataset import hash_folder
from registry.manifest import DatasetManifest
from registry.record import Kind
from registry.register import Registration, register_dataset
from tests.attacks.hall import Case, Hall

pytestmark = pytest.mark.timeout(120)
ROWS = "1,caf\u00e9,good\n2,th\u00e9,bad\n3,eau,good\n"
FILES = {
    "README.md": "Reviews, one a line: id, text, label.\n",
    "test.csv": "4,vin,good\n",
    "train/part-0.csv": ROWS,
    "train/part-1.csv": ROWS.replace("1,", "5,").replace("2,", "6,").replace("3,", "7,"),
}
Spoil = Callable[[Path], object]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write(tmp_path / "data", list(FILES))


@pytest.fixture
def dataset(hall: Hall, data: Path) -> Registration:
    return register(hall, data)


def write(folder: Path, order: list[str]) -> Path:
    for name in order:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(FILES[name], encoding="utf-8", newline="")
    return folder


def register(hall: Hall, folder: Path, name: str = "reviews") -> Registration:
    space = hall.workspace
    signer = space.signer("publisher")
    return register_dataset(
        folder, name=name, blocks=space.blocks, registry=space.records, signer=signer
    )


def verify(hall: Hall, id: bytes, folder: Path) -> DatasetManifest:
    space = hall.workspace
    block = space.final_block()
    return verify_dataset(
        id, registry=space.records, blocks=space.blocks, block=block, folder=folder
    )


def refused(hall: Hall, id: bytes, folder: Path, match: str) -> WeightproofError:
    with pytest.raises(WeightproofError, match=match) as caught:
        verify(hall, id, folder)
    # A node cannot be made to take it for a model.
    hall.refuses(Case(id, folder), r"step 1 \(record\): .* is a dataset, not a model")
    return caught.value


def rewritten(name: str, change: Callable[[str], str | bytes]) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        new = change(path.read_bytes().decode())
        path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return spoil


def swapped(first: str, second: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / first).rename(folder / "spare")
        (folder / second).rename(folder / first)
        (folder / "spare").rename(folder / second)

    return spoil


TRAIN = "train/part-0.csv"
LINES = ROWS.splitlines(keepends=True)
# What is done to the folder, the file that must be named, the rule
SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "a row twice": (rewritten(TRAIN, lambda text: text + LINES[0]), TRAIN, "bytes, the manifest"),
    "an id twice": (rewritten(TRAIN, lambda text: text.replace("2,", "1,")), TRAIN, "has the CID"),
    "a row for another": (
        rewritten(TRAIN, lambda text: text.replace(LINES[2], LINES[2].replace("good", "evil"))),
        TRAIN,
        "has the CID",
    ),
    "rows in another order": (
        rewritten(TRAIN, lambda text: "".join(reversed(LINES))),
        TRAIN,
        "has the CID",
    ),
    "labels swapped": (
        rewritten(TRAIN, lambda text: text.replace("th\u00e9,bad", "th\u00e9,goo")),
        TRAIN,
        "has the CID",
    ),
    "a row less": (rewritten(TRAIN, lambda text: "".join(LINES[1:])), TRAIN, "bytes, the manifest"),
    "files in another order": (swapped(TRAIN, "train/part-1.csv"), TRAIN, "has the CID"),
    "a file twice": (
        lambda folder: shutil.copy(folder / TRAIN, folder / "train/part-2.csv"),
        "train/part-2.csv",
        "is not in the manifest",
    ),
    "a file under another name": (
        lambda folder: (folder / TRAIN).rename(folder / "train/part-9.csv"),
        "train/part-9.csv",
        "is not in the manifest",
    ),
    "a file in another folder": (
        lambda folder: (folder / "test.csv").rename(folder / "train/test.csv"),
        "train/test.csv",
        "is not in the manifest",
    ),
    "a file less": (lambda folder: (folder / TRAIN).unlink(), TRAIN, "is missing"),
    "a link to the right bytes": (
        lambda folder: linked(folder, TRAIN, Path.symlink_to),
        TRAIN,
        "is a symbolic link",
    ),
    "a hard link to the right bytes": (
        lambda folder: linked(folder, TRAIN, Path.hardlink_to),
        TRAIN,
        "is a hard link",
    ),
    "a linked folder": (
        lambda folder: linked(folder, "train", Path.symlink_to),
        "train",
        "is a symbolic link",
    ),
    "a FIFO": (lambda folder: linked(folder, TRAIN, lambda p, _: os.mkfifo(p)), TRAIN, "is a FIFO"),
    "Latin-1": (rewritten(TRAIN, lambda text: text.encode("latin-1")), TRAIN, "bytes, the"),
    "UTF-16": (rewritten(TRAIN, lambda text: text.encode("utf-16")), TRAIN, "bytes, the manifest"),
    "a byte order mark": (rewritten(TRAIN, lambda text: "\ufeff" + text), TRAIN, "bytes, the"),
    "decomposed letters": (
        rewritten(TRAIN, lambda text: unicodedata.normalize("NFD", text)),
        TRAIN,
        "bytes, the manifest",
    ),
    "a letter that looks the same": (
        rewritten("README.md", lambda text: text.replace("e", "\u0435", 1)[:-1]),
        "README.md",
        "has the CID",
    ),
    "other line ends": (
        rewritten(TRAIN, lambda text: text.replace("\n", "\r\n")),
        TRAIN,
        "bytes, the manifest",
    ),
    "old line ends": (
        rewritten(TRAIN, lambda text: text.replace("\n", "\r")),
        TRAIN,
        "has the CID",
    ),
    "no last line end": (rewritten(TRAIN, lambda text: text[:-1]), TRAIN, "bytes, the manifest"),
    "compressed": (
        rewritten(TRAIN, lambda text: hashlib.sha256(text.encode()).digest()),
        TRAIN,
        "bytes, the manifest",
    ),
}


def linked(folder: Path, name: str, link: Callable[[Path, Path], object]) -> None:
    away = folder.parent / "away"
    (folder / name).rename(away)
    link(folder / name, away)


@pytest.mark.parametrize("what", SPOILT)
def test_a_folder_that_is_not_the_recorded_dataset_is_refused(
    hall: Hall, data: Path, dataset: Registration, what: str
) -> None:
    spoil, path, rule = SPOILT[what]
    spoil(data)
    error = refused(hall, dataset.id, data, rf"step 4 \(files\): .*{rule}")
    assert isinstance(error, FileRefusedError)
    assert error.path == path


@pytest.mark.parametrize("what", ["a link to the right bytes", "a linked folder", "a FIFO"])
def test_a_dataset_that_is_not_made_of_files_is_not_recorded(
    hall: Hall, data: Path, what: str
) -> None:
    spoil, path, rule = SPOILT[what]
    spoil(data)
    head = hall.devnet.chain.head()
    with pytest.raises(FileRefusedError, match=rule) as caught:
        register(hall, data)
    assert caught.value.path == path
    assert hall.devnet.chain.head().number == head.number


def test_a_name_in_another_form_of_unicode_is_refused(hall: Hall, data: Path) -> None:
    (data / unicodedata.normalize("NFD", "caf\u00e9.csv")).write_text("8,lait,good\n")
    with pytest.raises(FileRefusedError, match="is not in Unicode normal form C"):
        register(hall, data)


# Manifests


def manifest_of(dataset: Registration) -> dict[str, Any]:
    return dict(dataset.manifest.to_json())


def twice(manifest: dict[str, Any]) -> None:
    manifest["files"] = [manifest["files"][0], *manifest["files"]]


def under_two_cases(manifest: dict[str, Any]) -> None:
    first = manifest["files"][0]
    manifest["files"] = [{**first, "path": first["path"].upper()}, *manifest["files"]]


def reversed_files(manifest: dict[str, Any]) -> None:
    manifest["files"] = manifest["files"][::-1]


def swapped_cids(manifest: dict[str, Any]) -> None:
    files = [dict(file) for file in manifest["files"]]
    files[0]["cid"], files[1]["cid"] = files[1]["cid"], files[0]["cid"]
    manifest["files"] = files


def leading_out(manifest: dict[str, Any]) -> None:
    manifest["files"] = [{**manifest["files"][0], "path": "../x"}, *manifest["files"]]


def lost(manifest: dict[str, Any]) -> None:
    manifest["files"] = manifest["files"][1:]


def empty(manifest: dict[str, Any]) -> None:
    manifest["files"] = []


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (twice, "files are not sorted by path at 'README.md'"),
        (under_two_cases, "looks like the same name"),
        (reversed_files, "files are not sorted by path"),
        (swapped_cids, "the files make the folder"),
        (leading_out, "has the component '..'|not sorted"),
        (lost, "the files make the folder"),
        (empty, "there are no files"),
    ],
)
def test_a_dataset_manifest_that_is_not_true_to_itself_is_refused(
    hall: Hall,
    data: Path,
    dataset: Registration,
    spoil: Callable[[dict[str, Any]], None],
    rule: str,
) -> None:
    manifest = manifest_of(dataset)
    spoil(manifest)
    id = hall.publish(manifest, kind=Kind.DATASET)
    refused(hall, id, data, rf"step 2 \(manifest\): .*({rule})")


def test_a_models_manifest_recorded_as_a_dataset_is_refused(hall: Hall, data: Path) -> None:
    manifest = {**json.loads(hall.manifest_of(hall.good)), "name": "a model as a dataset"}
    id = hall.publish(manifest, kind=Kind.DATASET)
    refused(hall, id, data, r"step 2 \(manifest\): the chain records a dataset")


def test_a_dataset_that_was_revoked_is_refused(hall: Hall, data: Path) -> None:
    dataset = register(hall, data, name="withdrawn")
    hall.workspace.records.revoke(hall.workspace.signer("publisher"), dataset.id, "withdrawn")
    with pytest.raises(WeightproofError, match=r"step 1 \(record\): dataset .* was revoked"):
        verify(hall, dataset.id, data)


def test_a_model_is_no_dataset(hall: Hall) -> None:
    with pytest.raises(WeightproofError, match=r"step 1 \(record\): .* is a model, not a dataset"):
        verify(hall, hall.good.id, hall.folder)


# What may differ


def test_the_order_in_which_files_were_written_does_not_matter(
    hall: Hall, tmp_path: Path, dataset: Registration
) -> None:
    """Folders list files in any order: the digest is over the order of their names."""
    other = write(tmp_path / "other", list(reversed(FILES)))
    os.utime(other / TRAIN, (0, 0))
    (other / TRAIN).chmod(0o600)
    assert hash_folder(other).root == dataset.manifest.root  # type: ignore[union-attr]
    assert verify(hall, dataset.id, other) == dataset.manifest


def test_a_digest_over_sorted_rows_would_not_have_noticed(
    hall: Hall, data: Path, dataset: Registration
) -> None:
    """What careless fingerprints do: hash the set of rows, whatever their order and number."""

    def careless(folder: Path) -> bytes:
        rows = {row for path in sorted(folder.rglob("*.csv")) for row in path.read_text().split()}
        return hashlib.sha256("\n".join(sorted(rows)).encode()).digest()

    before = careless(data)
    rewritten(TRAIN, lambda text: "".join(reversed(LINES)) + LINES[0])(data)
    assert careless(data) == before
    refused(hall, dataset.id, data, rf"{TRAIN}: has .* bytes")


def test_the_recorded_dataset_is_accepted(hall: Hall, data: Path, dataset: Registration) -> None:
    assert verify(hall, dataset.id, data) == dataset.manifest
