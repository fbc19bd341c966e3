"""Row 2: the same bytes with two files swapped, or one renamed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.attacks.hall import Case, Hall
from tests.attacks.registered_victim import copied, folder_of
from tests.attacks.victim import FIRST_SHARD, README, SECOND_SHARD, write_victim

pytestmark = pytest.mark.timeout(120)
LICENSE, NOTICE = "LICENSE", "NOTICE.txt"


@pytest.fixture(scope="module")
def twins(hall: Hall) -> Case:
    """A model of files that are as long as each other, so that sizes tell nothing."""
    folder = hall.config.parent / "twins"
    write_victim(folder)
    (folder / LICENSE).write_text("You may copy this model.\n")
    (folder / NOTICE).write_text("You may not resell this.\n")
    for first, second in ((FIRST_SHARD, SECOND_SHARD), ("config.json", "generation_config.json")):
        level(folder / first, folder / second)
    return hall.register(folder, serving=None)


@pytest.fixture
def spoilt_twins(twins: Case, tmp_path: Path) -> Case:
    return copied(twins, tmp_path / "bad-twins")


def level(first: Path, second: Path) -> None:
    """Make two files equally long with spaces, which JSON and safetensors headers allow."""
    size = max(first.stat().st_size, second.stat().st_size)
    for path in (first, second):
        data, missing = path.read_bytes(), size - path.stat().st_size
        if path.suffix == ".safetensors":
            begin = 8 + int.from_bytes(data[:8], "little")
            length = (begin - 8 + missing).to_bytes(8, "little")
            path.write_bytes(length + data[8:begin] + b" " * missing + data[begin:])
        else:
            path.write_bytes(data + b" " * missing)


def swap(folder: Path, first: str, second: str) -> None:
    (folder / first).rename(folder / "spare")
    (folder / second).rename(folder / first)
    (folder / "spare").rename(folder / second)


def unnamed_digest(folder: Path) -> bytes:
    """Digest a folder as OpenSSF model signing does: the files' digests in order of their names."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    digests = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    return hashlib.sha256(digests).digest()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST_SHARD, SECOND_SHARD),
        ("config.json", "generation_config.json"),
        ("tokenizer.json", "tokenizer_config.json"),
        ("chat_template.jinja", README),
    ],
)
def test_two_swapped_files_are_refused(hall: Hall, spoilt: Case, first: str, second: str) -> None:
    swap(folder_of(spoilt), first, second)
    refusal = hall.refuses(spoilt, "has .* bytes, the manifest says")
    assert refusal.path in (first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (LICENSE, NOTICE),
        ("config.json", "generation_config.json"),
        (FIRST_SHARD, SECOND_SHARD),
    ],
)
def test_two_swapped_files_of_one_size_are_refused(
    hall: Hall, spoilt_twins: Case, first: str, second: str
) -> None:
    folder = folder_of(spoilt_twins)
    assert (folder / first).stat().st_size == (folder / second).stat().st_size
    swap(folder, first, second)
    hall.refuses(spoilt_twins, "has the CID|header", path=first)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (FIRST_SHARD, "model-00003-of-00002.safetensors"),
        (SECOND_SHARD, "model.safetensors"),
        ("chat_template.jinja", "chat_template.jinja2"),
        ("config.json", "Config.json"),
        ("tokenizer.json", ".tokenizer.json"),
        (README, "inner/README.md"),
        (README, "README.me"),
    ],
)
def test_a_renamed_file_is_refused(hall: Hall, spoilt: Case, old: str, new: str) -> None:
    folder = folder_of(spoilt)
    (folder / new).parent.mkdir(exist_ok=True)
    (folder / old).rename(folder / new)
    hall.refuses(spoilt, "is not in the manifest", path=new)


def test_a_rename_that_a_digest_without_names_would_not_notice_is_refused(
    hall: Hall, victim: Case, spoilt: Case
) -> None:
    (folder_of(spoilt) / "tokenizer_config.json").rename(folder_of(spoilt) / "tokenizer_x.json")
    assert unnamed_digest(folder_of(spoilt)) == unnamed_digest(folder_of(victim))
    hall.refuses(spoilt, "is not in the manifest", path="tokenizer_x.json")


def test_two_tensors_that_changed_names_are_refused(hall: Hall, spoilt: Case) -> None:
    """Same bytes, same sizes, same names: only which name stands for which bytes is another."""
    path = folder_of(spoilt) / FIRST_SHARD
    names = (
        b'"model.layers.0.self_attn.k_proj.weight"',
        b'"model.layers.0.self_attn.v_proj.weight"',
    )
    data = path.read_bytes()
    for old, new in ((names[0], b'"?"'), (names[1], names[0]), (b'"?"', names[1])):
        assert data.count(old) == 1
        data = data.replace(old, new)
    assert len(data) == path.stat().st_size
    path.write_bytes(data)
    hall.refuses(spoilt, "header|tensor|has the CID", path=FIRST_SHARD)


def test_two_tensors_that_changed_places_are_refused(hall: Hall, spoilt: Case) -> None:
    """The header points each of two equally large tensors at the other's bytes."""
    path = folder_of(spoilt) / FIRST_SHARD
    data = path.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    first, second = (header[f"model.layers.0.self_attn.{name}_proj.weight"] for name in "kv")
    first["data_offsets"], second["data_offsets"] = second["data_offsets"], first["data_offsets"]
    text = json.dumps(header, separators=(",", ":")).encode().ljust(begin - 8)
    path.write_bytes(data[:8] + text + data[begin:])
    assert path.stat().st_size == len(data)
    hall.refuses(spoilt, "header|tensor|has the CID", path=FIRST_SHARD)


def test_the_twins_themselves_are_loaded(hall: Hall, twins: Case) -> None:
    hall.accepts(twins)
