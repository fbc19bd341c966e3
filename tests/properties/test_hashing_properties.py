"""Properties of paths, headers and tensor digests that hold for all inputs."""

from __future__ import annotations

import contextlib
import json
import posixpath

from hypothesis import example, given
from hypothesis import strategies as st

from registry.errors import FileRefusedError
from registry.hashing.parallel import parallel_map
from registry.hashing.safetensors_header import DTYPE_BYTES, read_header
from registry.hashing.walk import check_path, check_paths
from registry.hashing.weights import TENSOR_CHUNK_BYTES, hash_weights, tensor_digest

odd = st.text(st.sampled_from("aA.-/\\ :é\0\n\u202e\u212b"), max_size=8)


@given(odd | st.text(max_size=8))
@example("a/../../b")
def test_an_accepted_path_stays_inside_its_folder_on_every_system(path: str) -> None:
    try:
        check_path(path)
    except FileRefusedError as error:
        assert str(error).isascii()
        return
    assert posixpath.normpath(path) == path
    assert not path.startswith(("/", "..")) or path.startswith("...")
    assert not set(path) & set("\\\0\n")


@given(st.lists(odd, max_size=6))
def test_accepted_paths_differ_even_without_case(paths: list[str]) -> None:
    try:
        check_paths(paths)
    except FileRefusedError:
        return
    assert len({path.casefold() for path in paths}) == len(paths)


@given(st.binary(max_size=60) | st.builds(lambda b: len(b).to_bytes(8, "little") + b, st.binary()))
def test_any_bytes_are_weights_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(FileRefusedError):
        read_header(memoryview(data))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), json_values), st.binary())
def test_any_header_is_read_or_refused(header: object, data: bytes) -> None:
    text = json.dumps(header).encode()
    with contextlib.suppress(FileRefusedError):
        read_header(memoryview(len(text).to_bytes(8, "little") + text + data))


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(DTYPE_BYTES)), st.lists(st.integers(1, 4), max_size=3)),
        min_size=1,
        max_size=5,
    ),
    st.randoms(use_true_random=False),
)
def test_each_tensor_of_a_file_has_the_digest_of_its_own_bytes(tensors, random) -> None:  # type: ignore[no-untyped-def]  # hypothesis fills both in
    header, expected, data = {}, {}, b""
    for number, (dtype, shape) in enumerate(tensors):
        size = DTYPE_BYTES[dtype]
        for dimension in shape:
            size *= dimension
        content = random.randbytes(size)
        header[f"t{number}"] = {
            "dtype": dtype,
            "shape": shape,
            "data_offsets": [len(data), len(data) + size],
        }
        data += content
        expected[f"t{number}"] = tensor_digest(dtype, shape, content)
    text = json.dumps(header).encode()
    file = len(text).to_bytes(8, "little") + text + data
    assert {t.name: t.digest for t in hash_weights(memoryview(file), threads=1)} == expected


@given(st.integers(1, 3 * TENSOR_CHUNK_BYTES), st.data())
@example(TENSOR_CHUNK_BYTES, None)
@example(TENSOR_CHUNK_BYTES + 1, None)
def test_every_byte_of_a_tensor_counts(size: int, data: st.DataObject | None) -> None:
    position = data.draw(st.integers(0, size - 1)) if data else size - 1
    content = bytearray(size)
    before = tensor_digest("U8", [size], bytes(content))
    content[position] ^= 1
    assert tensor_digest("U8", [size], bytes(content)) != before


@given(st.lists(st.integers()), st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(items: list[int], threads: int) -> None:
    assert list(parallel_map(lambda n: n * 2, items, threads=threads)) == [n * 2 for n in items]
