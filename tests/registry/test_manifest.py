from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.errors import CanonicalError, ManifestError
from registry.hashing.dataset import HashedFile, root_of
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.manifest import (
    DatasetManifest,
    Manifest,
    ModelManifest,
    Parent,
    Serving,
    TensorEntry,
    parse_manifest,
)
from registry.record import Kind
from registry.signing.canonical import MAX_BYTES, encode
from registry.text.golden import ChatVector, Golden, TextVector
from tests.registry.conftest import run_manifest

VECTORS = Path(__file__).parents[1] / "vectors" / "manifests"
CID = Cid(RAW, b"\x01" * 32)
FILES = (
    HashedFile("config.json", 20, Cid(RAW, b"\x02" * 32)),
    HashedFile("weights/a.safetensors", 1_000, Cid(RAW, b"\x03" * 32)),
)
MODEL = ModelManifest(
    name="tiny",
    task="chat",
    architecture="LlamaForCausalLM",
    root=root_of(FILES),
    files=FILES,
    tensors=(
        TensorEntry("weights/a.safetensors", "bias", "F16", (4,), b"\x04" * 32),
        TensorEntry("weights/a.safetensors", "weight", "BF16", (4, 8), b"\x05" * 32),
    ),
    parents=(Parent(Kind.RUN, b"\x06" * 32), Parent(Kind.MODEL, b"\x07" * 32)),
    metrics={"accuracy": "0.78", "loss": "-1"},
    serving=Serving("BF16", 2048, 512),
    license="Apache-2.0",
)
MODEL_FILES = (FILES[0], HashedFile("tokenizer.json", 99, Cid(RAW, b"\x0a" * 32)), FILES[1])
GOLDEN = Golden(
    texts=(
        TextVector("", (), (2,), ""),
        TextVector("Ca\u00e7a \u0000", (0, 2**32 - 1), (0, 2**32 - 1, 2), "Ca\u00e7a"),
    ),
    chats=(
        ChatVector((("system", "Be brief."), ("user", "Hello")), "Be brief.\nHello<|end|>"),
        ChatVector((("assistant", ""),), None),
    ),
)
# The same in version 2 of the format.
MODEL_2 = dataclasses.replace(
    MODEL,
    root=root_of(MODEL_FILES),
    files=MODEL_FILES,
    headers={"weights/a.safetensors": b"\x0b" * 32},
    golden=GOLDEN,
)
DATASET = DatasetManifest("reviews", root_of(FILES), FILES)
RUN = run_manifest(datasets=(b"\x08" * 32,), base=(b"\x09" * 32,), output_root=CID)
ALL = (MODEL, MODEL_2, DATASET, RUN)


def changed(manifest: Manifest, change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(manifest.encode())
    change(value)
    return encode(value)


def put(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """A change that sets the field at a path such as `files.0.cid`."""

    def change(target: Any) -> None:
        *parents, last = path.split(".")
        for part in parents:
            target = target[int(part) if part.isdigit() else part]
        target[int(last) if last.isdigit() else last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "weightproof/model@3", "no manifest format"),
        ("format", "weightproof/model@2", "lacks headers"),
        ("format", "weightproof/MODEL@1", "no manifest format"),
        ("format", 1, "not a text"),
        ("name", "", "1 to 256 printable"),
        ("name", "a\u0007b", "printable"),
        ("name", "\u202egnp", "printable"),
        ("name", "x" * 257, "printable"),
        ("name", 7, "not a text"),
        ("surprise", "x", "unknown field 'surprise'"),
        ("task", "paint", "task 'paint'"),
        ("architecture", "", "architecture"),
        ("license", "", "license"),
        ("root", str(CID), "the files make the folder"),
        ("root", "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", "CIDv0"),
        ("root", "BAFKREIE", "CIDv1"),
        ("files", [], "no files"),
        ("files", {}, "not a list"),
        ("files", "abc", "not a list"),
        ("files.0.path", "../config.json", "component"),
        ("files.0.path", "/config.json", "component"),
        ("files.0.path", "a//b", "component"),
        ("files.0.path", "zzz", "not sorted"),
        ("files.0.path", "weights", "file and also a folder"),
        ("files.0.size", -1, "not an integer"),
        ("files.0.size", "20", "not an integer"),
        ("files.0.size", 2**50, "not within"),
        ("files.0.sha1", "00", "unknown field"),
        ("files.0.cid", "b", "CIDv1"),
        ("files.0.cid", str(Cid(DAG_PB, b"\x02" * 32)), "the files make the folder"),
        ("files.0", "config.json", "not an object"),
        ("tensors", [], "no tensors"),
        ("tensors.0.name", "zzz", "not sorted"),
        ("tensors.0.name", "", "tensor"),
        ("tensors.1.name", "bias", "not sorted"),
        ("tensors.0.file", "config.json", "no listed weight file"),
        ("tensors.0.file", "other.safetensors", "not sorted|no listed weight file"),
        ("tensors.0.dtype", "bf16", "not a dtype"),
        ("tensors.0.dtype", "F17", "not a dtype"),
        ("tensors.0.shape", [-4], "shape"),
        ("tensors.0.shape", [0], "shape"),
        ("tensors.0.shape", ["4"], "not an integer"),
        ("tensors.0.shape", 4, "not a list"),
        ("tensors.0.shape", [10**12], "does not fit"),
        ("tensors.0.digest", "0x" + "AB" * 32, "not a digest"),
        ("tensors.0.digest", "0x" + "ab" * 31, "not a digest"),
        ("tensors.0.digest", "ab" * 32, "not a digest"),
        ("tensors.0.digest", "sha1:" + "ab" * 20, "not a digest"),
        ("parents.0.kind", "dataset", "runs and models"),
        ("parents.0.kind", "thing", "no kind of record"),
        ("parents.0.id", "0x" + "07" * 32, "twice"),
        ("parents.0.weight", 1, "unknown field"),
        ("metrics", {"accuracy": "0.780000000000000000000000000000000000"}, "not a decimal"),
        ("metrics", {"accuracy": "1e3"}, "not a decimal"),
        ("metrics", {"accuracy": ".5"}, "not a decimal"),
        ("metrics", {"accuracy": "05"}, "not a decimal"),
        ("metrics", {"accuracy": "+5"}, "not a decimal"),
        ("metrics", {"accuracy": "NaN"}, "not a decimal"),
        ("metrics", {"accuracy": 1}, "object of texts"),
        ("metrics", {"": "1"}, "metric's name"),
        ("serving", [], "not an object"),
        ("serving.dtype", "bfloat16", "not a dtype"),
        ("serving.max_context", 0, "max_context"),
        ("serving.max_output", 2049, "max_output"),
        ("serving.batch", 1, "unknown field"),
    ],
)
def test_a_model_manifest_with_one_wrong_field_is_refused(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(changed(MODEL, put(path, value)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "weightproof/model@1", "unknown field 'golden'"),
        ("headers", [], "headers is empty"),
        ("headers", {}, "not a list"),
        ("headers.0", "ab", "not an object"),
        ("headers.0.path", "config.json", "has a header digest, but no weights"),
        ("headers.0.path", "other.safetensors", "has a header digest, but no weights"),
        ("headers.0.digest", "0x" + "0b" * 31, "not a digest"),
        ("headers.0.size", 8, "unknown field"),
        ("golden", [], "not an object"),
        ("golden.more", [], "unknown field"),
        ("golden.texts", [], "golden.texts has 0 vectors"),
        (
            "golden.texts",
            [{"text": "", "ids": [], "wrapped": [], "decoded": ""}] * 65,
            "65 vectors",
        ),
        ("golden.texts.0.text", 1, "not a text"),
        ("golden.texts.0.text", "x" * 65536, "more than 65536"),
        ("golden.texts.0.ids", "abc", "not a list"),
        ("golden.texts.1.ids", [-1], "not a token id"),
        ("golden.texts.1.ids", [2**32], "not a token id"),
        ("golden.texts.1.wrapped", ["2"], "not a token id"),
        ("golden.texts.1.score", 1, "unknown field"),
        ("golden.chats", [], "a chat model has a template"),
        ("golden.chats", [{"messages": []}] * 65, "65 vectors"),
        ("golden.chats.0.messages", [{"role": "user"}], "lacks content"),
        ("golden.chats.0.messages.0.name", "x", "unknown field"),
        ("golden.chats.0.rendered", 1, "not a text"),
    ],
)
def test_a_model_manifest_of_version_2_with_one_wrong_field_is_refused(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(changed(MODEL_2, put(path, value)))


def test_a_weight_file_without_a_header_digest_is_refused() -> None:
    second = HashedFile("z.safetensors", 100, CID)
    files = (*MODEL_FILES[:2], MODEL_FILES[2], second)
    tensor = TensorEntry("z.safetensors", "z", "F16", (4,), b"\x04" * 32)
    with pytest.raises(ManifestError, match=r"z\.safetensors has no header digest"):
        dataclasses.replace(
            MODEL_2, files=files, root=root_of(files), tensors=(*MODEL.tensors, tensor)
        )


def test_header_digests_that_are_not_sorted_or_stand_twice_are_refused() -> None:
    def double(value: dict[str, Any]) -> None:
        value["headers"] = value["headers"] * 2

    with pytest.raises(ManifestError, match="headers are not sorted"):
        parse_manifest(changed(MODEL_2, double))


def test_a_tokenizer_without_golden_vectors_and_vectors_without_a_tokenizer_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"tokenizer\.json has no golden vectors"):
        dataclasses.replace(MODEL_2, golden=None)
    with pytest.raises(ManifestError, match=r"golden, but no tokenizer\.json"):
        dataclasses.replace(MODEL_2, files=FILES, root=root_of(FILES))
    with pytest.raises(ManifestError, match="no header digest"):
        dataclasses.replace(MODEL_2, headers={})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("datasets", ["0x" + "09" * 32], "twice"),
        ("datasets", ["0x12"], "not a digest"),
        ("datasets", [1], "not a digest"),
        ("datasets", [f"0x{n:064x}" for n in range(16)], "more than 16"),
        ("environment.packages", {"a": ""}, "packages"),
        ("environment.packages", {"a": ["1"]}, "object of texts"),
        ("environment.host", "x", "unknown field"),
        ("environment.code", "a\nb", "printable"),
        ("hyperparameters", {"a": "x" * 1025}, "printable"),
        ("hyperparameters", {"a": "\u001b[2J"}, "printable"),
        ("ended_at", 1, "ended before"),
        ("started_at", -1, "not an integer"),
        ("output_root", "", "CIDv1"),
    ],
)
def test_a_run_manifest_with_one_wrong_field_is_refused(
    path: str, value: object, message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(changed(RUN, put(path, value)))


@pytest.mark.parametrize("manifest", ALL, ids=lambda m: m.format)
def test_a_manifest_that_lacks_any_one_field_is_refused(manifest: Manifest) -> None:
    for name in json.loads(manifest.encode()):
        if name == "license":
            continue
        message = "no golden vectors" if name == "golden" else f"lacks {name}"
        with pytest.raises(ManifestError, match=message):
            parse_manifest(changed(manifest, lambda value, name=name: value.pop(name)))


@pytest.mark.parametrize("manifest", ALL, ids=lambda m: m.format)
def test_bytes_that_differ_from_the_canonical_ones_are_refused(manifest: Manifest) -> None:
    data = manifest.encode()
    for other in (
        data + b"\n",
        b"\xef\xbb\xbf" + data,
        data.replace(b'","', b'", "', 1),
        data[:-1],
        data.replace(b'"name":', b'"name":"first","name":', 1),
        b"[" + data + b"]",
        b" " * MAX_BYTES + data,
    ):
        with pytest.raises(CanonicalError):
            parse_manifest(other)


def test_a_weight_file_without_tensors_is_refused() -> None:
    files = (*FILES, HashedFile("z.safetensors", 10, CID))
    with pytest.raises(ManifestError, match=r"z\.safetensors holds no listed tensor"):
        dataclasses.replace(MODEL, files=files, root=root_of(files))


def test_one_tensor_name_in_two_files_is_refused() -> None:
    files = (*FILES, HashedFile("z.safetensors", 100, CID))
    twin = TensorEntry("z.safetensors", "bias", "F16", (4,), b"\x04" * 32)
    with pytest.raises(ManifestError, match="two files"):
        dataclasses.replace(MODEL, files=files, root=root_of(files), tensors=(*MODEL.tensors, twin))


def test_paths_that_are_one_file_elsewhere_are_refused() -> None:
    files = (HashedFile("Config.json", 1, CID), HashedFile("config.json", 1, CID))
    with pytest.raises(ManifestError, match="same name"):
        DatasetManifest("x", CID, files)


def test_a_manifest_larger_than_a_block_is_refused() -> None:
    files = tuple(HashedFile(f"{n:06}", 1, CID) for n in range(12_000))
    with pytest.raises(ManifestError, match="one block"):
        DatasetManifest("large", root_of(files), files).encode()


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MODEL.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        MODEL.metrics["accuracy"] = "1"  # type: ignore[index]
    with pytest.raises(TypeError):
        MODEL_2.headers["weights/a.safetensors"] = b"\x0c" * 32  # type: ignore[index]
    settings = {"a": "1"}
    run = run_manifest(hyperparameters=settings, output_root=CID)
    settings["a"] = "2"
    assert run.hyperparameters == {"a": "1"}


@pytest.mark.parametrize("manifest", ALL, ids=lambda m: m.format)
def test_a_manifest_is_read_back_as_it_was(manifest: Manifest) -> None:
    data = manifest.encode()
    found = parse_manifest(data)
    assert found == manifest
    assert found.encode() == data
    assert manifest.digest == hashlib.sha256(data).digest()
    assert manifest.cid == Cid.of_block(RAW, data)


def test_parents_come_in_the_order_the_chain_keeps_them() -> None:
    assert DATASET.parent_ids == ()
    assert RUN.parent_ids == (b"\x08" * 32, b"\x09" * 32)
    assert MODEL.parent_ids == (b"\x06" * 32, b"\x07" * 32)


@pytest.mark.parametrize(
    ("manifest", "digest"),
    [
        (MODEL, "8a1e7fc15bb684aa16fb780f9a493aabd9977b39808cad97923698c3345e41a3"),
        (MODEL_2, "f5f7e54a0fe124df6028c01d4f97477f732f3fcefa7b4f677161822ce73d9961"),
        (DATASET, "f9255aca3e4dc041b6eba1b2fae3eeae31352ea19ea88041380401879f74bad3"),
        (RUN, "096d9f2e2478446cc98d258f5c6ef797bddf770ca233fd2b77054d0e56bd81ef"),
    ],
    ids=lambda value: getattr(value, "format", None),
)
def test_manifests_of_every_version_are_readable_for_ever(manifest: Manifest, digest: str) -> None:
    data = (VECTORS / f"{manifest.format.removeprefix('weightproof/')}.json").read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert parse_manifest(data) == manifest
    assert manifest.encode() == data
