from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from math import prod

from hypothesis import assume, given
from hypothesis import strategies as st

from registry.errors import CanonicalError, FileRefusedError, ManifestError
from registry.hashing.dataset import HashedFile, root_of
from registry.hashing.safetensors_header import DTYPE_BYTES
from registry.ipfs.cid import DAG_PB, RAW, Cid
from registry.manifest import (
    DatasetManifest,
    Environment,
    Manifest,
    ModelManifest,
    Parent,
    RunManifest,
    Serving,
    TensorEntry,
    parse_manifest,
)
from registry.record import Kind
from registry.signing.canonical import encode
from registry.text.golden import ChatVector, Golden, TextVector

DIGESTS = st.binary(min_size=32, max_size=32)
CIDS = st.builds(Cid, st.sampled_from([RAW, DAG_PB]), DIGESTS)
PRINTABLE = st.characters(
    exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"), include_characters=" "
)
NAMES = st.text(PRINTABLE, min_size=1, max_size=40)
TEXTS = st.dictionaries(NAMES, NAMES, max_size=4)
DECIMALS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,8})?\Z")
METRICS = st.dictionaries(NAMES, DECIMALS, max_size=4)
STAMPS = st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)).map(sorted)
PARTS = st.text("abc._-0é", min_size=1, max_size=6)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
FILES = st.lists(
    st.builds(HashedFile, PATHS, st.integers(0, 2**33), CIDS),
    min_size=1,
    max_size=6,
    unique_by=lambda file: file.path,
)


def in_a_folder(files: list[HashedFile]) -> tuple[tuple[HashedFile, ...], Cid]:
    ordered = tuple(sorted(files, key=lambda file: file.path))
    try:
        return ordered, root_of(ordered)
    except FileRefusedError:
        assume(False)
        raise


@st.composite
def datasets(draw: Callable[..., object]) -> DatasetManifest:
    files, root = in_a_folder(draw(FILES))  # type: ignore[arg-type]
    return DatasetManifest(draw(NAMES), root, files, draw(st.none() | NAMES))  # type: ignore[arg-type]


ENVIRONMENTS = st.builds(Environment, NAMES, NAMES, NAMES, NAMES, NAMES, NAMES, TEXTS)
PARENT_IDS = st.lists(DIGESTS, max_size=6, unique=True)


@st.composite
def runs(draw: Callable[..., object]) -> RunManifest:
    ids: list[bytes] = draw(PARENT_IDS)  # type: ignore[assignment]
    cut: int = draw(st.integers(0, len(ids)))  # type: ignore[assignment]
    started_at, ended_at = draw(STAMPS)  # type: ignore[misc]
    return RunManifest(
        name=draw(NAMES),  # type: ignore[arg-type]
        datasets=tuple(ids[:cut]),
        base=tuple(ids[cut:]),
        environment=draw(ENVIRONMENTS),  # type: ignore[arg-type]
        hyperparameters=draw(TEXTS),  # type: ignore[arg-type]
        metrics=draw(METRICS),  # type: ignore[arg-type]
        output_root=draw(CIDS),  # type: ignore[arg-type]
        started_at=started_at,
        ended_at=ended_at,
    )


TOKEN_IDS = st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple)
# Anything that a tokenizer can read or write: control characters too.
WRITTEN = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
GOLDEN = st.builds(
    Golden,
    st.lists(
        st.builds(TextVector, WRITTEN, TOKEN_IDS, TOKEN_IDS, WRITTEN), min_size=1, max_size=3
    ).map(tuple),
    st.lists(
        st.builds(
            ChatVector,
            st.lists(st.tuples(WRITTEN, WRITTEN), max_size=3).map(tuple),
            st.none() | WRITTEN,
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
)
TENSORS = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from(sorted(DTYPE_BYTES)),
        st.lists(st.integers(1, 9), max_size=3).map(tuple),
        DIGESTS,
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda tensor: tensor[0],
)


@st.composite
def models(draw: Callable[..., object]) -> ModelManifest:
    tensors: list[tuple[str, str, tuple[int, ...], bytes]] = draw(TENSORS)  # type: ignore[assignment]
    size = sum(DTYPE_BYTES[dtype] * prod(shape) for _, dtype, shape, _ in tensors)
    weights = HashedFile("model.safetensors", size + 8, draw(CIDS))  # type: ignore[arg-type]
    others: list[HashedFile] = draw(FILES)  # type: ignore[assignment]
    version: int = draw(st.sampled_from([1, 2]))  # type: ignore[assignment]
    texts = [HashedFile("tokenizer.json", 9, draw(CIDS))] if draw(st.booleans()) else []  # type: ignore[arg-type]
    files, root = in_a_folder([*others, weights, *texts])
    output, context = draw(STAMPS)  # type: ignore[misc]
    ids: list[bytes] = draw(PARENT_IDS)  # type: ignore[assignment]
    return ModelManifest(
        name=draw(NAMES),  # type: ignore[arg-type]
        task=draw(st.sampled_from(["chat", "classify", "embed"])),  # type: ignore[arg-type]
        architecture=draw(NAMES),  # type: ignore[arg-type]
        root=root,
        files=files,
        tensors=tuple(
            TensorEntry(weights.path, *tensor)
            for tensor in sorted(tensors, key=lambda tensor: tensor[0])
        ),
        parents=tuple(Parent(draw(st.sampled_from([Kind.RUN, Kind.MODEL])), id) for id in ids),  # type: ignore[arg-type]
        metrics=draw(METRICS),  # type: ignore[arg-type]
        serving=Serving("BF16", context + 1, output),
        license=draw(st.none() | NAMES),  # type: ignore[arg-type]
        headers={weights.path: draw(DIGESTS)} if version > 1 else {},  # type: ignore[dict-item]
        golden=draw(GOLDEN) if version > 1 and texts else None,  # type: ignore[arg-type]
    )


MANIFESTS = datasets() | runs() | models()


@given(MANIFESTS)
def test_every_manifest_is_read_back_as_it_was(manifest: Manifest) -> None:
    data = manifest.encode()
    found = parse_manifest(data)
    assert found == manifest
    assert type(found) is type(manifest)
    assert found.encode() == data
    assert manifest.cid == Cid(RAW, hashlib.sha256(data).digest())


@given(MANIFESTS, st.integers(0, 2**31), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_another_manifest(
    manifest: Manifest, at: int, change: int
) -> None:
    data = bytearray(manifest.encode())
    data[at % len(data)] ^= change
    try:
        found = parse_manifest(bytes(data))
    except (CanonicalError, ManifestError):
        return
    assert found != manifest
    assert found.digest != manifest.digest


@given(MANIFESTS, st.data())
def test_a_field_that_was_swapped_for_another_json_value_is_refused_or_another_manifest(
    manifest: Manifest, data: st.DataObject
) -> None:
    value = json.loads(manifest.encode())
    field = data.draw(st.sampled_from(sorted(value)))
    other = data.draw(
        st.integers(-5, 5) | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
    )
    try:
        found = parse_manifest(encode({**value, field: other}))
    except (CanonicalError, ManifestError):
        return
    assert found == manifest or found.digest != manifest.digest


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_our_errors(data: bytes) -> None:
    try:
        parse_manifest(data)
    except (CanonicalError, ManifestError):
        return
    raise AssertionError("random bytes are no manifest")
