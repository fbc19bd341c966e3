from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from registry.chain.connection import Chain
from registry.chain.model_registry import ModelRegistry
from registry.errors import (
    BlockCorruptError,
    BlockStoreError,
    ChainUnreachableError,
    FileRefusedError,
    ManifestError,
    RecordRevokedError,
    TransactionFailedError,
)
from registry.hashing.weights import tensor_digest
from registry.ipfs.blockstore import FolderBlockStore, MemoryBlockStore
from registry.ipfs.cid import RAW, Cid, Codec
from registry.ipfs.unixfs import read_file
from registry.manifest import ModelManifest, Parent, Serving, parse_manifest
from registry.record import Kind, Status, record_id
from registry.register import Registration, register_dataset, register_model, register_run
from registry.signing.signer import Signer
from tests.registry.conftest import World, run_manifest
from tests.registry.model_folders import CONFIG, write_dataset, write_model


@pytest.fixture
def publisher(signers: list[Signer]) -> Signer:
    return signers[1]


def model_of(folder: Path, world: World, **changes: object) -> Registration:
    arguments = {
        "name": "tiny",
        "task": "chat",
        "parents": [Parent(Kind.RUN, world.run.id)],
        "blocks": world.blocks,
        "registry": world.registry,
        "signer": world.publisher,
    }
    return register_model(folder, **{**arguments, **changes})  # type: ignore[arg-type]


def test_an_empty_or_missing_folder_is_refused(
    tmp_path: Path, blocks: MemoryBlockStore, registry: ModelRegistry, publisher: Signer
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(FileRefusedError):
            register_dataset(
                tmp_path / name, name="x", blocks=blocks, registry=registry, signer=publisher
            )


def test_a_folder_with_a_link_is_refused(world: World, tmp_path: Path) -> None:
    (world.folder / "link.json").symlink_to(tmp_path / "anything")
    with pytest.raises(FileRefusedError, match="symbolic link"):
        model_of(world.folder, world)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "state.pt", "run.py", "MODEL.PKL"])
def test_a_file_that_can_run_code_is_refused_before_anything_is_stored(
    world: World, tmp_path: Path, name: str
) -> None:
    folder = write_model(tmp_path / "other", seed=9)
    (folder / name).write_bytes(b"\x80\x04.")
    held = len(world.blocks._blocks)
    with pytest.raises(FileRefusedError, match="can run code"):
        model_of(folder, world)
    assert len(world.blocks._blocks) == held


def test_a_model_without_weights_config_or_context_is_refused(world: World, tmp_path: Path) -> None:
    for at, (change, message) in enumerate(
        [
            (lambda f: [p.unlink() for p in f.glob("*.safetensors")], "no safetensors weights"),
            (lambda f: (f / "config.json").unlink(), "is missing"),
            (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
            (lambda f: (f / "config.json").write_text("[" * 100_000), "is not JSON"),
            (lambda f: (f / "config.json").write_text("[]"), "not a JSON object"),
            (lambda f: (f / "config.json").write_text("{}"), "one architecture"),
            (
                lambda f: (f / "config.json").write_text('{"architectures":["A","B"]}'),
                "one architecture",
            ),
            (
                lambda f: (f / "config.json").write_text('{"architectures":["A"]}'),
                "no context length",
            ),
        ]
    ):
        folder = write_model(tmp_path / str(at), seed=at)
        change(folder)
        with pytest.raises(FileRefusedError, match=message):
            model_of(folder, world)


def test_a_pickle_that_calls_itself_safetensors_is_refused(world: World) -> None:
    (world.folder / "model-0.safetensors").write_bytes(b"\x80\x04\x95" + b"\0" * 100)
    with pytest.raises(FileRefusedError, match=r"model-0\.safetensors"):
        model_of(world.folder, world)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("tokenizer.json", "{}", "tokenizer.json: is not of the version"),
        ("tokenizer_config.json", "{}", "chat_template.jinja: is missing: this model cannot chat"),
        ("tokenizer_config.json", '{"chat_template": "{{ now() }}"}', "is refused: 'now' is undef"),
        ("chat_template.jinja", "{{ messages }}", "has a chat template, and so has chat_template"),
        ("templates/other.jinja", "x", "templates/other.jinja: may be a second chat template"),
        ("generation_config.json", '{"eos_token_id": 97}', "eos_token_id is 97, which is no token"),
        ("config.json", json.dumps({**CONFIG, "vocab_size": 96}), "token id is 96, the model has"),
        ("config.json", json.dumps({**CONFIG, "auto_map": {}}), "nothing executable is loaded"),
    ],
    ids=lambda value: value[:30],
)
def test_a_model_whose_text_no_loader_takes_is_refused_early(
    world: World, path: str, text: str, message: str
) -> None:
    (world.folder / path).parent.mkdir(exist_ok=True)
    (world.folder / path).write_text(text)
    head = world.head().number
    with pytest.raises(FileRefusedError, match=message):
        model_of(world.folder, world)
    assert world.head().number == head


def test_a_parent_that_is_not_recorded_or_revoked_is_refused(world: World) -> None:
    with pytest.raises(TransactionFailedError) as caught:
        model_of(world.folder, world, parents=[Parent(Kind.RUN, b"\x42" * 32)])
    assert caught.value.error == "UnknownParent"
    world.registry.revoke(world.publisher, world.run.id, "wrong")
    with pytest.raises(TransactionFailedError) as caught:
        model_of(world.folder, world, name="late")
    assert caught.value.error == "RevokedParent"


def test_a_task_or_name_that_is_none_is_refused(world: World) -> None:
    for change in ({"task": "paint"}, {"name": ""}, {"metrics": {"a": "many"}}):
        with pytest.raises(ManifestError):
            model_of(world.folder, world, **change)


def test_what_was_revoked_is_not_registered_again(world: World) -> None:
    world.registry.revoke(world.publisher, world.model.id, "poisoned")
    with pytest.raises(RecordRevokedError, match="revoked, which is final"):
        model_of(world.folder, world)


def test_nothing_is_recorded_when_the_store_fails_or_lies(world: World) -> None:
    class Full(MemoryBlockStore):
        def put(self, codec: Codec, data: bytes) -> Cid:
            raise BlockStoreError("no space left")

    class Forgetful(MemoryBlockStore):
        def put(self, codec: Codec, data: bytes) -> Cid:
            return Cid.of_block(codec, data)

        def get(self, cid: Cid) -> bytes:
            return b"{}"

    head = world.head().number
    for store, error in ((Full(), BlockStoreError), (Forgetful(), BlockCorruptError)):
        with pytest.raises(error):
            model_of(world.folder, world, name="other", blocks=store)
    assert world.head().number == head


def test_an_unreachable_chain_is_said_so(world: World) -> None:
    gone = ModelRegistry(Chain("http://127.0.0.1:9", 0.5), world.registry.address)
    with pytest.raises(ChainUnreachableError):
        model_of(world.folder, world, registry=gone)


def test_the_same_call_twice_gives_the_same_record_and_one_transaction(world: World) -> None:
    head = world.head().number
    again = model_of(world.folder, world)
    assert again.id == world.model.id
    assert again.manifest == world.model.manifest
    assert (again.receipt, again.gas_used) == (None, 0)
    assert world.head().number == head


def test_the_same_folder_by_another_publisher_is_another_record(
    world: World, signers: list[Signer]
) -> None:
    other = model_of(world.folder, world, signer=signers[4])
    assert other.manifest == world.model.manifest
    assert other.id != world.model.id
    assert other.id == record_id(signers[4].address, other.manifest.digest)


def test_a_dataset_is_recorded_with_every_file(world: World) -> None:
    record = world.registry.record(world.dataset.id)
    assert (record.kind, record.status) == (Kind.DATASET, Status.ACTIVE)
    assert record.manifest_digest == world.dataset.manifest.digest == world.dataset.cid.digest
    assert parse_manifest(world.blocks.get(world.dataset.cid)) == world.dataset.manifest
    assert [file.path for file in world.dataset.manifest.files] == [
        "README.md",
        "train/0.txt",
        "train/1.txt",
        "train/2.txt",
    ]
    assert world.dataset.gas_used > 21_000


def test_a_run_is_recorded_under_its_datasets(world: World) -> None:
    assert world.registry.record(world.run.id).parents == (world.dataset.id,)


def test_a_model_is_recorded_with_every_file_and_tensor(world: World) -> None:
    manifest = world.model.manifest
    assert isinstance(manifest, ModelManifest)
    assert manifest.architecture == "LlamaForCausalLM"
    assert manifest.serving == Serving("F32", 128, 64)
    assert world.registry.record(world.model.id).parents == (world.run.id,)
    names = []
    for file in manifest.files:
        data = b"".join(read_file(world.blocks, file.cid))
        assert data == (world.folder / file.path).read_bytes()
        if file.path.endswith(".safetensors"):
            names += [(file.path, name) for name in load_file(world.folder / file.path)]
    assert [(t.file, t.name) for t in manifest.tensors] == sorted(names)
    first = manifest.tensors[0]
    array = load_file(world.folder / first.file)[first.name]
    assert first.shape == array.shape
    assert first.digest == tensor_digest(first.dtype, first.shape, array.tobytes())


def test_a_model_is_recorded_with_its_headers_and_golden_vectors(world: World) -> None:
    manifest = world.model.manifest
    assert isinstance(manifest, ModelManifest)
    assert manifest.format == "weightproof/model@2"
    assert sorted(manifest.headers) == ["model-0.safetensors", "model-1.safetensors"]
    for path, digest in manifest.headers.items():
        data = (world.folder / path).read_bytes()
        length = int.from_bytes(data[:8], "little")
        assert digest == hashlib.sha256(data[: 8 + length]).digest()
    assert manifest.golden is not None
    fox = manifest.golden.texts[1]
    assert fox.text == fox.decoded == "The quick brown fox jumps over the lazy dog."
    assert len(fox.ids) == len(fox.text)
    assert manifest.golden.chats[0].rendered == "Hello<|end|>"
    assert parse_manifest(manifest.encode()) == manifest


def test_a_publisher_without_ether_registers_through_a_relayer(
    world: World, signers: list[Signer], tmp_path: Path
) -> None:
    poor = Signer.random()
    dataset = register_dataset(
        write_dataset(tmp_path / "own", rows=1),
        name="own",
        blocks=world.blocks,
        registry=world.registry,
        signer=poor,
        relayer=signers[6],
        license="CC0-1.0",
    )
    run = register_run(
        run_manifest(datasets=(dataset.id,), output_root=dataset.manifest.root),
        blocks=world.blocks,
        registry=world.registry,
        signer=poor,
        relayer=signers[6],
    )
    for registration in (dataset, run):
        assert world.registry.record(registration.id).publisher == poor.address
    assert world.devnet.chain.balance(poor.address) == 0


def test_blocks_lie_in_a_folder_that_another_process_can_serve(
    world: World, tmp_path: Path
) -> None:
    seen: list[int] = []
    store = FolderBlockStore(tmp_path / "blocks")
    registration = model_of(world.folder, world, blocks=store, progress=seen.append)
    assert registration.id == world.model.id
    assert sum(seen) == sum(file.size for file in registration.manifest.files)
    fresh = FolderBlockStore(tmp_path / "blocks")
    world.verify(blocks=fresh, folder=None).close()


def test_serving_limits_may_be_given(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures":["BertForSequenceClassification"]}')
    save_file({"w": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    given = model_of(folder, world, task="classify", serving=Serving("F32", 512, 0))
    manifest = given.manifest
    assert isinstance(manifest, ModelManifest)
    assert manifest.serving == Serving("F32", 512, 0)


def test_a_record_is_found_under_the_digest_of_its_manifest_alone(world: World) -> None:
    record = world.registry.record(world.model.id)
    assert Cid(RAW, record.manifest_digest) == world.model.cid
