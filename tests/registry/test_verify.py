from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from registry import verify
from registry.attestation import Attestation
from registry.chain.attestations import AttestationBook
from registry.chain.block import Block, BlockRef
from registry.errors import (
    BlockMissingError,
    CanonicalError,
    ChainMismatchError,
    ChainStaleError,
    FileRefusedError,
    ManifestError,
    PolicyError,
    RecordError,
    RecordRevokedError,
    RecordUnknownError,
)
from registry.hashing.dataset import root_of
from registry.ipfs.blockstore import MemoryBlockStore
from registry.ipfs.cid import RAW
from registry.manifest import ModelManifest, Parent
from registry.policy import Policy
from registry.record import Kind, Record, record_id
from registry.register import register_model
from registry.signing.signer import Signer
from registry.verify import VerifiedModel, check_standing
from tests.registry.conftest import DAY_S, World, forget
from tests.registry.model_folders import write_model


class AnsweringRegistry:
    """A registry that changes one thing in what the real one answers: a lying endpoint."""

    def __init__(self, world: World, **changes: object) -> None:
        self._world = world
        self._changes = changes
        self.chain_id = world.registry.chain_id
        self.address = world.registry.address

    def record(self, id: bytes, *, block: BlockRef | None = None) -> Record:
        found = self._world.registry.record(id, block=block)
        return dataclasses.replace(found, **self._changes) if id == self._world.model.id else found


# Step 1


def test_an_unknown_model_is_refused(world: World) -> None:
    with pytest.raises(RecordUnknownError, match="step 1"):
        world.verify(model_id=b"\x42" * 32)


def test_a_model_is_unknown_at_a_block_before_it_was_registered(world: World) -> None:
    early = world.devnet.chain.block_at(1)
    with pytest.raises(RecordUnknownError, match="at block 1"):
        world.verify(block=early)


def test_a_dataset_or_a_run_is_no_model(world: World) -> None:
    for other in (world.dataset, world.run):
        with pytest.raises(RecordError, match=r"step 1.*not a model"):
            world.verify(model_id=other.id)


def test_a_revoked_model_is_refused(world: World) -> None:
    world.registry.revoke(world.publisher, world.model.id, "poisoned")
    with pytest.raises(RecordRevokedError, match=r"step 1.*revoked by its publisher"):
        world.verify()


def test_a_model_revoked_after_the_block_still_stands_at_the_block(world: World) -> None:
    block = world.head()
    world.registry.revoke(world.publisher, world.model.id, "poisoned")
    assert world.verify(block=block).block == block


def test_a_block_that_is_not_on_the_chain_is_refused(world: World) -> None:
    head = world.head()
    with pytest.raises(ChainMismatchError, match="step 1"):
        world.verify(block=Block(head.number, b"\x01" * 32, head.timestamp))


def test_a_block_that_is_too_old_is_refused(world: World) -> None:
    policy = dataclasses.replace(world.policy, max_block_age_s=60)
    now = world.head().timestamp
    with pytest.raises(ChainStaleError, match=r"step 1.*61 s old"):
        world.verify(policy=policy, now=now + 61)
    world.verify(policy=policy, now=now + 60).close()


def test_a_registry_without_code_is_refused(world: World) -> None:
    nobody = type(world.registry)(
        world.registry.chain, "0x000000000000000000000000000000000000dEaD"
    )
    with pytest.raises(ChainMismatchError, match=r"step 1.*no ModelRegistry contract"):
        world.verify(registry=nobody)


# Step 2


def test_a_manifest_that_nobody_has_is_refused(world: World) -> None:
    forget(world.blocks, world.model.manifest.digest)
    with pytest.raises(BlockMissingError, match="step 2"):
        world.verify()


def test_a_recorded_manifest_that_is_not_canonical_is_refused(world: World) -> None:
    spaced = world.model.manifest.encode() + b" "
    cid = world.blocks.put(RAW, spaced)
    world.registry.register(world.publisher, Kind.MODEL, cid.digest, [])
    with pytest.raises(CanonicalError, match="step 2"):
        world.verify(model_id=record_id(world.publisher.address, cid.digest))


def test_a_recorded_manifest_of_an_unknown_version_is_refused(world: World) -> None:
    newer = world.model.manifest.encode().replace(b"model@2", b"model@9")
    cid = world.blocks.put(RAW, newer)
    world.registry.register(world.publisher, Kind.MODEL, cid.digest, [])
    with pytest.raises(ManifestError, match=r"step 2.*model@9"):
        world.verify(model_id=record_id(world.publisher.address, cid.digest))


def test_a_dataset_recorded_as_a_model_is_refused(world: World) -> None:
    digest = world.dataset.manifest.digest
    other = world.attester
    world.registry.register(other, Kind.MODEL, digest, [])
    with pytest.raises(
        ManifestError, match=r"step 2.*records a model, the manifest is of a dataset"
    ):
        world.verify(model_id=record_id(other.address, digest))


# Step 3


def test_a_record_of_another_publisher_than_its_id_is_refused(world: World) -> None:
    liar = AnsweringRegistry(world, publisher=world.attester.address)
    with pytest.raises(ChainMismatchError, match="step 3"):
        world.verify(registry=liar)


def test_other_parents_on_chain_than_in_the_manifest_are_refused(world: World) -> None:
    manifest = dataclasses.replace(world.model.manifest, name="orphan")
    world.blocks.put(RAW, manifest.encode())
    world.registry.register(world.publisher, Kind.MODEL, manifest.digest, [])
    with pytest.raises(ManifestError, match=r"step 3.*different parents"):
        world.verify(model_id=record_id(world.publisher.address, manifest.digest))


# Steps 4 and 5


def test_a_publisher_that_is_not_trusted_is_refused(world: World) -> None:
    policy = dataclasses.replace(world.policy, publishers=frozenset({world.attester.address}))
    with pytest.raises(PolicyError, match=f"step 5.*{world.publisher.address} is not trusted"):
        world.verify(policy=policy)


def test_attestations_of_strangers_do_not_count(world: World, signers: list[object]) -> None:
    world.book.attest(
        signers[5], world.model.id, "integrity", 10_000, world.head().timestamp + DAY_S
    )
    policy = dataclasses.replace(world.policy, min_attestations=2)
    with pytest.raises(PolicyError, match=r"step 5.*1 known attesters vouch.*2 are needed"):
        world.verify(policy=policy)


def test_many_attestations_of_strangers_do_not_stop_a_model(
    world: World, signers: list[Signer]
) -> None:
    until = world.head().timestamp + DAY_S
    for score in range(30):
        world.book.attest(signers[5], world.model.id, "integrity", score, until)
    reader = AttestationBook(world.book.chain, world.book.address, max_read=10)
    assert world.attester.address not in {
        found.attester for found in reader.attestations_of(world.model.id)
    }
    with world.verify(attestations=reader) as verified:
        assert [found.attester for found in verified.attestations] == [world.attester.address]
        block = world.head()
        check_standing(
            verified,
            registry=world.registry,
            attestations=reader,
            policy=world.policy,
            block=block,
            now=block.timestamp,
        )


def test_one_attester_counts_once(world: World) -> None:
    world.book.attest(
        world.attester, world.model.id, "safety", 10_000, world.head().timestamp + DAY_S
    )
    with pytest.raises(PolicyError, match="1 known attesters"):
        world.verify(policy=dataclasses.replace(world.policy, min_attestations=2))


def test_a_low_score_another_tag_and_an_expired_attestation_do_not_count(world: World) -> None:
    for change in ({"tags": frozenset({"safety"})}, {"min_score": 10_001}):
        with pytest.raises(PolicyError, match="0 known attesters"):
            world.verify(policy=dataclasses.replace(world.policy, **change))
    with pytest.raises(PolicyError, match="0 known attesters"):
        world.verify(now=world.head().timestamp + 2 * DAY_S)


def test_a_clock_that_is_behind_does_not_revive_an_expired_attestation(world: World) -> None:
    now = world.head().timestamp
    world.devnet.pass_time(2 * DAY_S)
    with pytest.raises(PolicyError, match="0 known attesters"):
        world.verify(now=now)


def test_a_revoked_attestation_does_not_count(world: World) -> None:
    (attestation,) = world.book.attestations_of(world.model.id)
    world.book.revoke(world.attester, attestation.id)
    with pytest.raises(PolicyError, match="0 known attesters"):
        world.verify()


def test_attestations_of_another_model_do_not_count(world: World) -> None:
    class Confused:
        def attestations_of(
            self,
            model_id: bytes,
            *,
            block: BlockRef | None = None,
            attesters: Collection[str] | None = None,
        ) -> tuple[Attestation, ...]:
            found = world.book.attestations_of(model_id, block=block, attesters=attesters)
            return tuple(dataclasses.replace(a, model_id=b"\x01" * 32) for a in found)

    with pytest.raises(PolicyError, match="0 known attesters"):
        world.verify(attestations=Confused())


def test_a_model_tainted_by_its_dataset_or_run_is_refused(world: World) -> None:
    for parent, word in ((world.dataset, "dataset"), (world.run, "run")):
        snapshot = world.devnet.snapshot()
        world.registry.revoke(world.publisher, parent.id, "copyright")
        with pytest.raises(RecordRevokedError, match=f"step 5.*tainted by {word}") as caught:
            world.verify()
        assert parent.id.hex() in str(caught.value)
        world.devnet.revert(snapshot)


def test_a_policy_may_allow_a_tainted_lineage(world: World) -> None:
    world.registry.revoke(world.publisher, world.dataset.id, "typo in the name")
    world.verify(policy=dataclasses.replace(world.policy, allow_revoked_parents=True)).close()


def test_a_lineage_that_is_too_long_is_refused(world: World) -> None:
    with pytest.raises(PolicyError, match=r"step 5.*more than 1 ancestors"):
        world.verify(policy=dataclasses.replace(world.policy, max_ancestors=1))


def test_an_endless_lineage_is_refused(world: World) -> None:
    class Endless(AnsweringRegistry):
        def record(self, id: bytes, *, block: BlockRef | None = None) -> Record:
            if id == world.model.id:
                return super().record(id, block=block)
            found = world.registry.record(world.run.id, block=block)
            following = (int.from_bytes(id, "big") ^ 1 << 8) + 1
            return dataclasses.replace(
                found, id=id, parents=(following.to_bytes(32, "big"), world.model.id)
            )

    with pytest.raises(PolicyError, match="more than 256 ancestors"):
        world.verify(registry=Endless(world))


def test_a_parent_of_another_kind_than_the_manifest_says_is_refused(world: World) -> None:
    wrong = (Parent(Kind.MODEL, world.run.id),)
    manifest = dataclasses.replace(world.model.manifest, parents=wrong)
    world.blocks.put(RAW, manifest.encode())
    world.registry.register(world.publisher, Kind.MODEL, manifest.digest, [world.run.id])
    model_id = record_id(world.publisher.address, manifest.digest)
    with pytest.raises(ManifestError, match=r"step 5.*calls 0x.* a model, it is a run"):
        world.verify(
            model_id=model_id, policy=dataclasses.replace(world.policy, min_attestations=0)
        )


# Step 6


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_flipped_bit_in_any_file_is_refused(world: World) -> None:
    for path in files_of(world.folder):
        true = path.read_bytes()
        for at in (0, len(true) // 2, len(true) - 1):
            path.write_bytes(true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :])
            with pytest.raises(FileRefusedError, match="step 6") as caught:
                world.verify(keep_files=False)
            assert caught.value.path == path.name
        path.write_bytes(true)
    world.verify().close()


def test_what_a_loader_will_not_hash_again_is_refused_before_it_loads(world: World) -> None:
    """All but the tensors' own bytes, which the loader hashes where it puts them."""
    for path in files_of(world.folder):
        true = path.read_bytes()
        weights = path.suffix == ".safetensors"
        length = 8 + int.from_bytes(true[:8], "little") if weights else len(true)
        for at in {0, 7, length // 2, length - 1}:
            path.write_bytes(true[:at] + bytes([true[at] ^ 1]) + true[at + 1 :])
            with pytest.raises(FileRefusedError, match="step 6") as caught:
                world.verify()
            assert caught.value.path == path.name
        path.write_bytes(true)
    world.verify().close()


def test_a_tensor_other_than_the_manifest_lists_is_refused_though_its_file_is_listed(
    world: World,
) -> None:
    manifest = world.model.manifest
    assert isinstance(manifest, ModelManifest)
    wrong = dataclasses.replace(manifest.tensors[0], digest=b"\1" * 32)
    false = dataclasses.replace(manifest, tensors=(wrong, *manifest.tensors[1:]))
    model_id = record(world, false)
    with pytest.raises(FileRefusedError, match=r"model-0\.safetensors: tensor .* is not as"):
        world.verify(model_id=model_id, policy=without_attestations(world), keep_files=False)


def test_a_header_other_than_the_manifest_promises_is_refused(world: World) -> None:
    manifest = world.model.manifest
    assert isinstance(manifest, ModelManifest)
    headers = {**manifest.headers, "model-0.safetensors": b"\1" * 32}
    model_id = record(world, dataclasses.replace(manifest, headers=headers))
    for keep in (True, False):
        with pytest.raises(FileRefusedError, match=r"model-0\.safetensors: its header is not"):
            world.verify(model_id=model_id, policy=without_attestations(world), keep_files=keep)


def test_a_missing_truncated_grown_or_emptied_file_is_refused(world: World) -> None:
    path = world.folder / "model-1.safetensors"
    true = path.read_bytes()
    for data, rule in (
        (true[:-1], "bytes, the manifest says"),
        (true + b"\0", "bytes, the manifest says"),
        (b"", "has 0 bytes"),
    ):
        path.write_bytes(data)
        with pytest.raises(FileRefusedError, match=f"step 6.*model-1.safetensors.*{rule}"):
            world.verify()
    path.unlink()
    with pytest.raises(FileRefusedError, match=r"model-1\.safetensors: is missing"):
        world.verify()


@pytest.mark.parametrize(
    "name",
    ["modeling_tiny.py", "adapter_config.json", "chat_template.jinja", ".hidden", "a/b/c.json"],
)
def test_an_extra_file_is_refused(world: World, name: str) -> None:
    path = world.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    with pytest.raises(FileRefusedError, match=r"step 6.*is not in the manifest") as caught:
        world.verify()
    assert caught.value.path == name


def test_two_files_that_changed_places_are_refused(world: World) -> None:
    first, second = world.folder / "model-0.safetensors", world.folder / "model-1.safetensors"
    os.rename(first, world.folder / "spare")
    os.rename(second, first)
    os.rename(world.folder / "spare", second)
    with pytest.raises(FileRefusedError, match=r"step 6.*its header is not the one"):
        world.verify()
    with pytest.raises(FileRefusedError, match=r"step 6.*has the CID"):
        world.verify(keep_files=False)


def test_a_link_in_place_of_a_file_is_refused(world: World, tmp_path: Path) -> None:
    path = world.folder / "config.json"
    os.rename(path, tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(FileRefusedError, match=r"config\.json: is a symbolic link"):
        world.verify()
    path.unlink()
    os.link(tmp_path / "elsewhere.json", path)
    with pytest.raises(FileRefusedError, match=r"config\.json: is a hard link"):
        world.verify()


def test_limits_of_the_policy_hold_before_anything_is_read(world: World) -> None:
    for change in ({"max_bytes": 1_000}, {"max_files": 3}):
        with pytest.raises(PolicyError, match=r"step 6.*the policy allows"):
            world.verify(policy=dataclasses.replace(world.policy, **change))


def record(world: World, manifest: ModelManifest) -> bytes:
    """Record a manifest that no honest tool wrote; return its id."""
    world.blocks.put(RAW, manifest.encode())
    world.registry.register(world.publisher, Kind.MODEL, manifest.digest, [world.run.id])
    return record_id(world.publisher.address, manifest.digest)


def without_attestations(world: World) -> Policy:
    return dataclasses.replace(world.policy, min_attestations=0)


def test_a_manifest_that_lists_a_pickle_is_refused(world: World) -> None:
    manifest = world.model.manifest
    assert isinstance(manifest, ModelManifest)
    (world.folder / "extra.pkl").write_bytes(b"\x80\x04.")
    hashed = dataclasses.replace(manifest.files[0], path="extra.pkl")
    files = tuple(sorted((*manifest.files, hashed), key=lambda file: file.path))
    listing = dataclasses.replace(manifest, files=files, root=root_of(files))
    model_id = record(world, listing)
    with pytest.raises(FileRefusedError, match=r"step 6.*extra\.pkl.*can run code"):
        world.verify(model_id=model_id, policy=without_attestations(world))


def test_a_block_that_is_missing_is_refused(world: World) -> None:
    manifest = world.model.manifest
    assert isinstance(manifest, ModelManifest)
    forget(world.blocks, manifest.files[0].cid.digest)
    with pytest.raises(BlockMissingError, match="step 6"):
        world.verify(folder=None)


def test_a_refused_model_leaves_no_memory_behind(world: World) -> None:
    last = files_of(world.folder)[-1]
    last.write_bytes(b"x" * last.stat().st_size)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(FileRefusedError):
            world.verify()
    assert len(os.listdir("/proc/self/fd")) == before


# The result


def test_nobody_else_makes_a_verified_model(world: World) -> None:
    true = world.verify()
    values = {f.name: getattr(true, f.name) for f in dataclasses.fields(true)}
    with pytest.raises(TypeError, match="nowhere"):
        VerifiedModel(**values)
    with pytest.raises((TypeError, ValueError)):
        dataclasses.replace(true, model_id=b"\x01" * 32)
    with pytest.raises(dataclasses.FrozenInstanceError):
        true.model_id = b"\x01" * 32  # type: ignore[misc]
    true.close()


def test_a_model_is_verified_from_its_folder(world: World) -> None:
    seen: list[int] = []
    block = world.head()
    with world.verify(block=block, progress=seen.append) as verified:
        manifest = verified.manifest
        assert verified.model_id == world.model.id
        assert (verified.chain_id, verified.registry_address) == (31337, world.registry.address)
        assert manifest == world.model.manifest
        assert verified.manifest_digest == manifest.digest
        assert verified.block == block
        assert [a.attester for a in verified.attestations] == [world.attester.address]
        assert verified.record.publisher == world.publisher.address
        small = [f for f in manifest.files if not f.path.endswith(".safetensors")]
        assert sum(seen) == sum(file.size for file in small)
        assert sorted(verified.files) == [file.path for file in small]
        assert sorted(verified.weights) == ["model-0.safetensors", "model-1.safetensors"]
        for path, sealed in verified.files.items():
            assert sealed.bytes() == (world.folder / path).read_bytes()


def test_what_was_verified_does_not_change_with_the_folder(world: World) -> None:
    with world.verify() as verified:
        true = (world.folder / "config.json").read_bytes()
        (world.folder / "config.json").write_bytes(b"evil")
        assert verified.files["config.json"].bytes() == true


def test_a_model_is_verified_from_its_blocks_alone(world: World) -> None:
    with world.verify(folder=None) as verified:
        for path, sealed in verified.files.items():
            assert sealed.bytes() == (world.folder / path).read_bytes()


def test_copies_are_dropped_where_nobody_wants_them(world: World) -> None:
    before = len(os.listdir("/proc/self/fd"))
    verified = world.verify(keep_files=False)
    assert verified.files == {}
    assert verified.weights == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_model_without_a_lineage_and_without_attestations_needs_a_policy_that_allows_it(
    world: World, tmp_path: Path
) -> None:
    lone = register_model(
        write_model(tmp_path / "lone", seed=8, shards=1),
        name="lone",
        task="embed",
        parents=[],
        blocks=MemoryBlockStore(),
        registry=world.registry,
        signer=world.publisher,
    )
    world.blocks.put(RAW, lone.manifest.encode())
    with pytest.raises(PolicyError, match="step 5"):
        world.verify(model_id=lone.id, folder=tmp_path / "lone")
    policy = dataclasses.replace(world.policy, min_attestations=0)
    world.verify(model_id=lone.id, folder=tmp_path / "lone", policy=policy).close()


# Later


def test_a_model_in_use_is_stopped_by_revocation_taint_expiry_and_a_stale_chain(
    world: World,
) -> None:
    verified = world.verify()

    def check(**changes: object) -> None:
        block = world.head()
        arguments = {
            "registry": world.registry,
            "attestations": world.book,
            "policy": world.policy,
            "block": block,
            "now": block.timestamp,
        }
        check_standing(verified, **{**arguments, **changes})  # type: ignore[arg-type]

    check()
    with pytest.raises(PolicyError, match="0 known attesters"):
        check(now=world.head().timestamp + 2 * DAY_S)
    with pytest.raises(ChainStaleError, match="step 1"):
        check(
            policy=dataclasses.replace(world.policy, max_block_age_s=1),
            now=world.head().timestamp + 60,
        )
    snapshot = world.devnet.snapshot()
    world.registry.revoke(world.publisher, world.run.id, "wrong seed")
    with pytest.raises(RecordRevokedError, match="tainted by run"):
        check()
    world.devnet.revert(snapshot)
    world.registry.revoke(world.publisher, world.model.id, "poisoned")
    with pytest.raises(RecordRevokedError, match="revoked by its publisher"):
        check()
    verified.close()


def test_the_story_is_told_by_its_steps() -> None:
    for number in range(1, 7):
        assert f" {number}. " in (verify.__doc__ or "")
