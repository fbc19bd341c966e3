"""Row 1: one flipped bit in any weight shard, config, tokenizer, template, index or adapter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from registry.ipfs.cid import RAW, Cid
from registry.ipfs.unixfs import list_dir
from registry.manifest import ModelManifest
from registry.verify import fetch_manifest
from tests.attacks.hall import Case, Hall
from tests.attacks.hostile_adapters import RANK, TARGETS, lora
from tests.attacks.registered_victim import block_file, copied, flip, folder_of
from tests.attacks.victim import FILES, FIRST_SHARD, README, SECOND_SHARD

pytestmark = pytest.mark.timeout(120)
# A file is refused by its CID, a shard by the digest of its header or of one of its tensors.
OTHER_BYTES = r"has the CID|does not hash to what the manifest lists|header"


@contextmanager
def flipped_block(hall: Hall, cid: Cid, at: int) -> Iterator[None]:
    """Flip a bit of a block on the disk that the hall and its node share."""
    path = block_file(hall, cid)
    true = path.read_bytes()
    flip(path, at)
    try:
        yield
    finally:
        path.write_bytes(true)


def manifest_of(hall: Hall, case: Case) -> ModelManifest:
    found = fetch_manifest(hall.workspace.blocks, hall.workspace.records.record(case.id))
    assert isinstance(found, ModelManifest)
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_is_refused(hall: Hall, spoilt: Case, name: str) -> None:
    path = folder_of(spoilt) / name
    flip(path, path.stat().st_size // 2)
    hall.refuses(spoilt, OTHER_BYTES, path=name)


@pytest.mark.parametrize("at", [0, -1])
@pytest.mark.parametrize("name", FILES)
def test_its_first_and_last_bits_count_like_all_others(
    hall: Hall, spoilt: Case, name: str, at: int
) -> None:
    flip(folder_of(spoilt) / name, at, bit=7)
    hall.refuses_here(spoilt, OTHER_BYTES, path=name)


@pytest.mark.parametrize("shard", [FIRST_SHARD, SECOND_SHARD])
def test_a_flipped_bit_of_a_weight_that_safetensors_loads_is_refused(
    hall: Hall, victim: Case, spoilt: Case, shard: str
) -> None:
    """The format has no digest of its own: its library hands out the changed weight."""
    flip(folder_of(spoilt) / shard, -2, bit=3)
    true, changed = (load_file(folder_of(case) / shard) for case in (victim, spoilt))
    assert any(not true[name].equal(changed[name]) for name in true)
    hall.refuses(spoilt, r"tensor \S+ does not hash to what the manifest lists", path=shard)


def test_a_flipped_bit_in_a_shards_header_is_refused(hall: Hall, spoilt: Case) -> None:
    """The header names one tensor otherwise, and is as good a header as before."""
    path = folder_of(spoilt) / SECOND_SHARD
    flip(path, path.read_bytes().index(b"input_layernorm"))
    assert b"hnput_layernorm" in path.read_bytes()
    hall.refuses(spoilt, "header|has the CID", path=SECOND_SHARD)


def test_a_flipped_bit_in_a_block_of_any_file_is_refused(hall: Hall, victim: Case) -> None:
    for file in manifest_of(hall, victim).files:
        with flipped_block(hall, file.cid, -1):
            hall.refuses(Case(victim.id, None), f"has other bytes under {file.cid}")
    hall.accepts(Case(victim.id, None))


def test_a_flipped_bit_in_a_leaf_below_a_file_is_refused(hall: Hall, victim: Case) -> None:
    (root,) = (file.cid for file in manifest_of(hall, victim).files if file.path == README)
    leaf = Cid.of_block(RAW, (folder_of(victim) / README).read_bytes()[: 1 << 20])
    assert root.codec != RAW
    with flipped_block(hall, leaf, 1 << 19):
        hall.refuses(Case(victim.id, None), f"has other bytes under {leaf}")


def test_a_flipped_bit_in_the_manifest_is_refused(hall: Hall, victim: Case) -> None:
    cid = manifest_of(hall, victim).cid
    for at in (0, 500, -1):
        with flipped_block(hall, cid, at):
            hall.refuses(Case(victim.id, None), f"manifest.*has other bytes under {cid}")


def test_the_folders_own_block_is_not_believed_because_it_is_not_read(
    hall: Hall, victim: Case
) -> None:
    """Which files there are is in the manifest: what the directory's block says has no weight."""
    root = manifest_of(hall, victim).root
    assert [entry.name for entry in list_dir(hall.workspace.blocks, root)] == list(FILES)
    with flipped_block(hall, root, 40):
        hall.accepts(Case(victim.id, None))


# An adapter, and the base below it


@pytest.fixture(scope="module")
def adapter(hall: Hall) -> Case:
    """A sound adapter of the good model, as peft saves it."""
    folder = hall.config.parent / "flipped adapter"
    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors = {}
    for target, (inputs, outputs) in TARGETS.items():
        tensors |= lora(target, inputs, outputs)
    save_file(tensors, folder / "adapter_model.safetensors")
    base = {"kind": "model", "id": f"0x{hall.good.id.hex()}"}
    return hall.forge(folder, architecture="LoraAdapter", parents=[base])


@pytest.mark.parametrize("at", [0, 700, -1])
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_flipped_bit_in_an_adapter_is_refused(
    hall: Hall, adapter: Case, tmp_path: Path, name: str, at: int
) -> None:
    bad = copied(adapter, tmp_path / "bad")
    path = folder_of(bad) / name
    flip(path, at % path.stat().st_size if at > 0 else at)
    hall.refuses(bad, OTHER_BYTES, path=name)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_flipped_bit_in_the_base_of_an_adapter_is_refused(
    hall: Hall, adapter: Case, name: str
) -> None:
    data = (hall.folder / name).read_bytes()
    with flipped_block(hall, Cid.of_block(RAW, data), -1):
        hall.refuses(adapter, f"base 0x{hall.good.id.hex()}.*has other bytes under")


def test_the_adapter_itself_is_loaded(hall: Hall, adapter: Case) -> None:
    hall.accepts(adapter)


def test_the_victim_itself_is_loaded(hall: Hall, victim: Case, spoilt: Case) -> None:
    for case in (victim, spoilt, Case(victim.id, None)):
        hall.accepts(case)
