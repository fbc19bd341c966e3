"""An adapter is verified with its base: one record, one block, one policy for both."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from registry.adapter import resident_entries
from registry.adapter_config import read_config
from registry.errors import (
    FileRefusedError,
    ManifestError,
    PolicyError,
    RecordRevokedError,
    RecordUnknownError,
    WeightproofError,
)
from registry.ipfs.cid import RAW
from registry.manifest import ModelManifest, Parent, Serving
from registry.record import Kind, record_id
from registry.register import Registration, register_model
from registry.verify import VerifiedModel, check_standing
from tests.inference.tiny_adapters import CONFIG, WEIGHTS, adapter, attention
from tests.registry.conftest import DAY_S, World
from tests.registry.model_folders import write_model

WIDTH = 8
SIDES = attention([0, 1], WIDTH)


@dataclass
class Pair:
    """A base and its adapter on the world's chain; only the base is vouched for at first."""

    world: World
    base: Registration
    adapter: Registration
    base_folder: Path
    folder: Path

    def vouch(self, record: Registration, days: int = 1) -> None:
        expires_at = self.world.head().timestamp + days * DAY_S
        self.world.book.attest(self.world.attester, record.id, "integrity", 10_000, expires_at)

    def verify(self, **changes: object) -> VerifiedModel:
        places = {"folder": self.folder, "base_folder": self.base_folder}
        return self.world.verify(**{"model_id": self.adapter.id, **places, **changes})

    def refused(self, kind: type[WeightproofError], match: str, **changes: object) -> None:
        """Both with and without keeping files; what was opened is closed."""
        # What earlier tests left would be closed at any moment.
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for keep in (True, False):
            with pytest.raises(kind, match=match):
                self.verify(keep_files=keep, **changes)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def pair(world: World, tmp_path: Path) -> Iterator[Pair]:
    base_folder = write_model(tmp_path / "base", shards=0)
    random = np.random.default_rng(5)
    square = {f"{name}.weight": random.standard_normal((WIDTH, WIDTH)) for name in SIDES}
    tensors = {name: values.astype(np.float32) for name, values in square.items()}
    save_file(tensors, base_folder / "model.safetensors")
    base = register(world, base_folder, ())
    folder = adapter(tmp_path / "adapter", SIDES)
    pair = Pair(world, base, register(world, folder, (base.id,)), base_folder, folder)
    pair.vouch(base)
    pair.vouch(pair.adapter)
    return pair


def register(world: World, folder: Path, bases: tuple[bytes, ...], **more: object) -> Registration:
    return register_model(
        folder,
        name=folder.name,
        task="chat",
        parents=[Parent(Kind.MODEL, id) for id in bases],
        blocks=world.blocks,
        registry=world.registry,
        signer=world.publisher,
        **more,  # type: ignore[arg-type]
    )


# The base


def test_a_base_that_nobody_vouches_for_is_refused(pair: Pair) -> None:
    """Whoever vouches for an adapter vouches for the adapter, not for what it changes."""
    world = pair.world
    [first] = world.book.attestations_of(pair.base.id)
    world.book.revoke(world.attester, first.id)
    pair.refused(PolicyError, rf"base 0x{pair.base.id.hex()}: step 5 .*0 known attesters")


def test_an_adapter_that_nobody_vouches_for_is_refused_though_its_base_is(pair: Pair) -> None:
    [first] = pair.world.book.attestations_of(pair.adapter.id)
    pair.world.book.revoke(pair.world.attester, first.id)
    pair.refused(PolicyError, r"^step 5 .*0 known attesters")


def test_a_base_of_a_publisher_who_is_not_trusted_is_refused(pair: Pair, tmp_path: Path) -> None:
    world = pair.world
    folder = adapter(tmp_path / "by another", SIDES)
    stranger = dataclasses.replace(world, publisher=world.attester)
    other = register(stranger, folder, (pair.base.id,))
    pair.vouch(other)
    policy = dataclasses.replace(world.policy, publishers=frozenset({world.attester.address}))
    places = {"model_id": other.id, "folder": folder, "policy": policy}
    pair.refused(PolicyError, r"base 0x.*: step 5 .*publisher .* is not trusted", **places)


def test_a_revoked_base_is_refused_even_where_a_tainted_lineage_is_allowed(pair: Pair) -> None:
    pair.world.registry.revoke(pair.world.publisher, pair.base.id, "poisoned")
    pair.refused(RecordRevokedError, r"^step 5 .*is tainted by model")
    policy = dataclasses.replace(pair.world.policy, allow_revoked_parents=True)
    pair.refused(RecordRevokedError, r"base 0x.*: step 1 .*was revoked", policy=policy)


def test_a_folder_of_another_model_in_place_of_the_base_is_refused(pair: Pair) -> None:
    """The chain says which base it is, and the base's record what its files are."""
    other = Path(shutil.copytree(pair.base_folder, pair.folder.parent / "other"))
    (other / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    pair.refused(FileRefusedError, r"base 0x.*: step 6 .*config\.json", base_folder=other)
    weights = bytearray((pair.base_folder / "model.safetensors").read_bytes())
    weights[30] ^= 1
    (pair.base_folder / "model.safetensors").write_bytes(weights)
    pair.refused(FileRefusedError, r"base 0x.*: step 6 .*model\.safetensors")


def test_an_adapter_in_place_of_its_base_is_refused_at_registration(
    pair: Pair, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "upon an adapter", SIDES)
    with pytest.raises(ManifestError, match="is an adapter itself"):
        register(pair.world, folder, (pair.adapter.id,))


def test_a_base_that_is_not_recorded_or_is_no_model_is_refused_at_registration(
    pair: Pair, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "lost", SIDES)
    with pytest.raises(RecordUnknownError):
        register(pair.world, folder, (b"\x42" * 32,))
    with pytest.raises(ManifestError, match="is a run, not a model"):
        register(pair.world, folder, (pair.world.run.id,))


@pytest.mark.parametrize(
    ("serving", "rule"),
    [
        (Serving("BF16", 128, 64), "to be served in BF16, its base in F32"),
        (Serving("F32", 129, 64), "max_context is 129, its base's is 128"),
    ],
)
def test_limits_beyond_the_bases_are_refused_at_registration(
    pair: Pair, tmp_path: Path, serving: Serving, rule: str
) -> None:
    folder = adapter(tmp_path / "wide", SIDES)
    with pytest.raises(ManifestError, match=rule):
        register(pair.world, folder, (pair.base.id,), serving=serving)


def test_a_misfit_that_was_recorded_all_the_same_is_refused_and_leaves_nothing_open(
    pair: Pair,
) -> None:
    world, honest = pair.world, pair.adapter.manifest
    assert isinstance(honest, ModelManifest)
    wide = dataclasses.replace(honest, serving=Serving("F32", 129, 64))
    cid = world.blocks.put(RAW, wide.encode())
    world.registry.register(world.publisher, Kind.MODEL, cid.digest, wide.parent_ids)
    policy = dataclasses.replace(world.policy, min_attestations=0)
    id = record_id(world.publisher.address, cid.digest)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ManifestError, match=r"^step 6 .*max_context is 129") as kept:
        pair.verify(model_id=id, policy=policy)
    # The error's frames still hold what it was about; that is closed nevertheless.
    assert kept.tb is not None
    assert len(os.listdir("/proc/self/fd")) == before


# The adapter's own files


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_flipped_bit_in_an_adapters_file_is_refused(pair: Pair, name: str) -> None:
    path = pair.folder / name
    true = path.read_bytes()
    # Of weights, the header: the tensors' own bytes are the loader's, where files are kept.
    path.write_bytes(true[:20] + bytes([true[20] ^ 1]) + true[21:])
    pair.refused(FileRefusedError, rf"^step 6 .*{name}")


def test_a_flipped_bit_in_an_adapters_tensor_is_refused_where_no_loader_follows(pair: Pair) -> None:
    path = pair.folder / WEIGHTS
    true = path.read_bytes()
    path.write_bytes(true[:-1] + bytes([true[-1] ^ 1]))
    with pytest.raises(FileRefusedError, match=WEIGHTS):
        pair.verify(keep_files=False)


def test_a_beginning_that_changed_the_base_is_refused() -> None:
    """peft's pissa, olora and their like train beside another base than the one registered."""
    for begun in ("pissa", "pissa_niter_16", "olora", "corda", "eva", "loftq", "lora_ga", 1, None):
        with pytest.raises(FileRefusedError, match="init_lora_weights"):
            read_config(json.dumps({**SOUND, "init_lora_weights": begun}).encode())
    for begun in (True, False, "gaussian", "orthogonal"):
        read_config(json.dumps({**SOUND, "init_lora_weights": begun}).encode())


SOUND = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["a"], "bias": "none"}


def test_the_scale_is_the_papers_or_that_of_rank_stabilised_lora() -> None:
    plain = read_config(json.dumps(SOUND).encode())
    assert plain.scale == 2.0
    assert dataclasses.replace(plain, rank_stabilised=True).scale == 4.0


# What is verified


def test_an_adapter_brings_its_base_verified_at_the_same_block(pair: Pair) -> None:
    with pair.verify() as verified:
        base = verified.base
        assert base is not None
        assert base.model_id == pair.base.id
        assert base.block == verified.block
        assert base.base is None
        assert set(verified.files) == {CONFIG}
        assert set(verified.weights) == {WEIGHTS}
        assert [a.model_id for a in (*verified.attestations, *base.attestations)] == [
            pair.adapter.id,
            pair.base.id,
        ]
    with pytest.raises(FileRefusedError, match="was closed"):
        base.files["config.json"].view()


def test_an_adapter_and_its_base_are_verified_from_blocks_alone(pair: Pair) -> None:
    with pair.verify(folder=None, base_folder=None) as verified:
        assert verified.base is not None
    pair.verify(folder=None, base_folder=None, keep_files=False).close()


def test_the_tensors_in_memory_are_the_bases_and_what_is_added_beside_them(pair: Pair) -> None:
    own, base = pair.adapter.manifest, pair.base.manifest
    assert isinstance(own, ModelManifest)
    assert isinstance(base, ModelManifest)
    with pair.verify() as verified:
        found = {entry.name: entry for entry in verified.tensors}
    assert len(found) == len(own.tensors) + len(base.tensors) == 6
    for entry in base.tensors:
        assert found[entry.name] == entry
    for entry in own.tensors:
        name = entry.name.removeprefix("base_model.model.")
        assert found[name] == dataclasses.replace(entry, name=name)
    assert resident_entries(base, None) == base.tensors


# Later


def test_an_adapter_in_use_stands_and_falls_with_its_base(pair: Pair) -> None:
    verified, world = pair.verify(), pair.world
    [first] = verified.base.attestations if verified.base else ()

    def check(now: int = 0) -> int:
        block = world.head()
        counting = check_standing(
            verified,
            registry=world.registry,
            attestations=world.book,
            policy=world.policy,
            block=block,
            now=now or block.timestamp,
        )
        return len(counting)

    assert check() == 2
    pair.vouch(pair.adapter, days=9)
    with pytest.raises(PolicyError, match=rf"base 0x{pair.base.id.hex()}: step 5.*0 known"):
        check(now=first.expires_at + 1)
    snapshot = world.devnet.snapshot()
    world.book.revoke(world.attester, first.id)
    with pytest.raises(PolicyError, match="base 0x"):
        check()
    world.devnet.revert(snapshot)
    world.registry.revoke(world.publisher, pair.base.id, "poisoned")
    with pytest.raises(RecordRevokedError, match="tainted by model"):
        check()
    verified.close()
