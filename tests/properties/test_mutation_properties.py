"""No single change to a registered model passes: not in its folder, its manifest or its blocks.

The model is real and its record is on a real chain, asked once: what the chain said at one block
does not change. Every case changes one thing, verifies and loads, and must be refused with an error
of ours that leaves no memory behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.errors import LoadRefusedError
from inference.loader import load
from registry.attestation import Attestation
from registry.chain.attestations import AttestationBook
from registry.chain.block import Block, BlockRef
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.model_registry import ModelRegistry
from registry.errors import (
    BlockCorruptError,
    BlockError,
    BlockMissingError,
    CanonicalError,
    FileRefusedError,
    ManifestError,
    WeightproofError,
)
from registry.ipfs.blockstore import BlockStore, FolderBlockStore
from registry.ipfs.cid import RAW, Cid, Codec
from registry.policy import Policy
from registry.record import Record
from registry.register import register_model
from registry.signing.signer import Signer
from registry.verify import verify_model
from tests.attacks.victim import write_victim
from tests.properties.mutations import changes, misplacements, write_folder

DAY_S = 86_400
# Some 3,500 cases together. One core verifies in 10 ms and loads in another 15; most cases are
# refused before they are loaded.
many = settings(max_examples=700, suppress_health_check=[HealthCheck.too_slow])
some = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
few = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class RememberedChain:
    """Records and attestations of a real chain at one block, each asked for once."""

    def __init__(self, registry: ModelRegistry, book: AttestationBook, block: Block) -> None:
        self.chain_id = registry.chain_id
        self.address = registry.address
        self.block = block
        self._record = cache(lambda id: registry.record(id, block=block))
        self._attestations = cache(
            lambda id, attesters: book.attestations_of(id, block=block, attesters=attesters)
        )

    def record(self, id: bytes, *, block: BlockRef | None = None) -> Record:
        assert block == self.block
        return self._record(id)

    def attestations_of(
        self,
        model_id: bytes,
        *,
        block: BlockRef | None = None,
        attesters: Collection[str] | None = None,
    ) -> tuple[Attestation, ...]:
        assert block == self.block
        return self._attestations(model_id, frozenset(attesters or ()))


class Listening:
    """A block store that notes what is read of it."""

    def __init__(self, inner: BlockStore) -> None:
        self._inner = inner
        self.read: dict[Cid, bytes] = {}

    def get(self, cid: Cid) -> bytes:
        self.read[cid] = self._inner.get(cid)
        return self.read[cid]

    def put(self, codec: Codec, data: bytes) -> Cid:
        return self._inner.put(codec, data)

    def has(self, cid: Cid) -> bool:
        return self._inner.has(cid)


class Lying(Listening):
    """A block store that breaks its promise: what it hands out was not re-hashed."""

    def __init__(self, inner: BlockStore, lies: dict[Cid, bytes]) -> None:
        super().__init__(inner)
        self._lies = lies

    def get(self, cid: Cid) -> bytes:
        return self._lies[cid] if cid in self._lies else super().get(cid)


@dataclass(frozen=True)
class Target:
    """The registered model: where its files and blocks are, and what the chain says of it."""

    model_id: bytes
    folder: Path
    files: dict[str, bytes]
    store: Path
    blocks: FolderBlockStore
    chain: RememberedChain
    policy: Policy

    def load(
        self, *, folder: Path | None, blocks: BlockStore | None = None, keep: bool = True
    ) -> None:
        """Verify and load, and give everything back."""
        block = self.chain.block
        with verify_model(
            self.model_id,
            registry=self.chain,
            attestations=self.chain,
            blocks=blocks or self.blocks,
            policy=self.policy,
            block=block,
            now=block.timestamp,
            folder=folder,
            keep_files=keep,
        ) as verified:
            if keep:
                load(verified, device="cpu", threads=1)

    def refusal(self, attempt: Callable[[], None]) -> WeightproofError:
        """Return why `attempt` was refused. Any other error, or none, fails the test."""
        before = descriptors()
        with pytest.raises(WeightproofError) as caught:
            attempt()
        assert descriptors() <= before
        return caught.value

    def block_file(self, cid: Cid) -> Path:
        return next(self.store.glob(f"*/{cid}"))

    def read_blocks(self) -> dict[Cid, bytes]:
        """Return every block that loading from blocks reads."""
        listening = Listening(self.blocks)
        self.load(folder=None, blocks=listening)
        return listening.read


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(scope="module")
def target(
    chain: Chain,
    deployment: Deployment,
    signers: list[Signer],
    tmp_path_factory: pytest.TempPathFactory,
    torch: object,
) -> Iterator[Target]:
    at = tmp_path_factory.mktemp("mutations")
    folder, blocks = write_victim(at / "model"), FolderBlockStore(at / "blocks")
    registry = ModelRegistry(chain, deployment.model_registry)
    book = AttestationBook(chain, deployment.attestations)
    publisher, attester = signers[1], signers[3]
    model = register_model(
        folder,
        name="victim",
        task="chat",
        parents=(),
        blocks=blocks,
        registry=registry,
        signer=publisher,
    )
    book.attest(attester, model.id, "integrity", 10_000, chain.head().timestamp + DAY_S)
    made = Target(
        model_id=model.id,
        folder=folder,
        files={path.name: path.read_bytes() for path in folder.iterdir()},
        store=at / "blocks",
        blocks=blocks,
        chain=RememberedChain(registry, book, chain.head()),
        policy=Policy(
            publishers=frozenset({publisher.address}),
            attesters=frozenset({attester.address}),
            min_attestations=1,
        ),
    )
    made.load(folder=folder)
    made.load(folder=None)
    yield made
    # Every case put back what it changed, so none was refused for the sake of another.
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made.files
    made.load(folder=folder)
    made.load(folder=folder, keep=False)
    made.load(folder=None)


def one_changed_file(
    target: Target, data: st.DataObject, load: Callable[[], None]
) -> tuple[str, WeightproofError]:
    """Load with one change to one file, which is put back; return which, and the refusal."""
    name = data.draw(st.sampled_from(sorted(target.files)))
    changed = data.draw(changes(target.files[name])).of(target.files[name])
    path = target.folder / name
    path.write_bytes(changed)
    try:
        return name, target.refusal(load)
    finally:
        path.write_bytes(target.files[name])


def test_one_change_to_any_file_of_the_folder_is_refused_by_name(target: Target) -> None:
    @many
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        name, error = one_changed_file(target, data, lambda: target.load(folder=target.folder))
        assert isinstance(error, FileRefusedError | LoadRefusedError)
        assert error.path == name, error

    refused()


def test_one_change_to_any_file_is_refused_where_nothing_is_loaded(target: Target) -> None:
    @some
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        name, error = one_changed_file(
            target, data, lambda: target.load(folder=target.folder, keep=False)
        )
        assert isinstance(error, FileRefusedError)
        assert error.path == name, error

    refused()


def test_files_under_other_names_than_registered_are_refused(target: Target) -> None:
    @some
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        files = data.draw(misplacements(target.files)).of(target.files)
        touched = {
            name
            for name in files.keys() | target.files.keys()
            if files.get(name) != target.files.get(name)
        }
        write_folder(target.folder, files)
        try:
            error = target.refusal(lambda: target.load(folder=target.folder))
        finally:
            write_folder(target.folder, target.files)
        assert isinstance(error, FileRefusedError | LoadRefusedError)
        assert any(name in error.message for name in touched), error

    refused()


def test_one_change_to_any_block_on_disk_is_refused_by_its_cid(target: Target) -> None:
    blocks = target.read_blocks()

    @many
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        cid = data.draw(st.sampled_from(sorted(blocks)))
        changed = data.draw(changes(blocks[cid])).of(blocks[cid])
        path = target.block_file(cid)
        path.write_bytes(changed)
        try:
            error = target.refusal(lambda: target.load(folder=None))
        finally:
            path.write_bytes(blocks[cid])
        assert isinstance(error, BlockCorruptError)
        assert error.cid == str(cid), error

    refused()


def test_blocks_that_changed_places_or_are_gone_are_refused(target: Target) -> None:
    blocks = target.read_blocks()

    @few
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        first, second = data.draw(st.permutations(sorted(blocks)))[:2]
        is_lost = data.draw(st.booleans())
        if is_lost:
            target.block_file(first).unlink()
        else:
            target.block_file(first).write_bytes(blocks[second])
            target.block_file(second).write_bytes(blocks[first])
        try:
            error = target.refusal(lambda: target.load(folder=None))
        finally:
            for cid in (first, second):
                target.blocks.put(cid.codec, blocks[cid])
        assert isinstance(error, BlockMissingError if is_lost else BlockCorruptError)
        assert isinstance(error, BlockError)
        assert error.cid in (str(first), str(second)), error

    refused()


def test_one_change_to_any_block_is_refused_even_if_the_store_lies(target: Target) -> None:
    blocks = target.read_blocks()

    @many
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        cid = data.draw(st.sampled_from(sorted(blocks)))
        lie = data.draw(changes(blocks[cid])).of(blocks[cid])
        liar = Lying(target.blocks, {cid: lie})
        error = target.refusal(lambda: target.load(folder=None, blocks=liar))
        # 3: something is not what it should be. Not a chain or a setting that could be at fault.
        assert error.exit_code == 3, repr(error)

    refused()


def test_one_change_to_the_manifest_is_refused_even_if_the_store_lies(target: Target) -> None:
    digest = target.chain.record(target.model_id, block=target.chain.block).manifest_digest
    manifest = Cid(RAW, digest)
    true = target.blocks.get(manifest)

    @many
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        liar = Lying(target.blocks, {manifest: data.draw(changes(true)).of(true)})
        error = target.refusal(lambda: target.load(folder=target.folder, blocks=liar))
        assert isinstance(error, CanonicalError | ManifestError), repr(error)
        assert "step 2" in error.message

    refused()
