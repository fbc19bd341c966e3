"""SHA-256 of chunks on a GPU: hashlib tests the reference, both test the kernel's logic.

The kernel runs under Triton's interpreter here; `tests/gpu` runs it on a GPU.
"""

from __future__ import annotations

import hashlib
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.engine import sha256_reference
from inference.engine.sha256_kernel import chunk_digests_of_many
from inference.errors import LoadRefusedError
from registry.hashing.weights import TENSOR_CHUNK_BYTES
from tests.inference.engine import interpreted_hash
from tests.inference.engine.interpreted_hash import Piece

ROOT = Path(__file__).parents[3]
# The size of "weightproof/tensor@1". The interpreter takes a minute for the 64 KiB of @2, whose
# kernel differs by one number; `tests/gpu` has both.
CHUNK_BYTES = 16 * 1024
# NIST's examples for FIPS 180-4, and a message of one whole block, with their digests.
VECTORS = {
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": (
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
    b"lmnopqrsmnopqrstnopqrstu": (
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    b"a" * 64: "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb",
}
# Bytes by which a kernel that mixes up words, lanes or chunks would betray itself.
contents = st.integers(0, 2**32).map(lambda seed: Random(seed).randbytes(6000))
lengths = st.sampled_from([0, 1, 63, 64, 65, 127, 128, 2047, 2048, 2049]) | st.integers(0, 6000)


def hashed(data: bytes, chunk_bytes: int) -> bytes:
    starts = range(0, len(data), chunk_bytes)
    return b"".join(hashlib.sha256(data[n : n + chunk_bytes]).digest() for n in starts)


def referenced(data: bytes, chunk_bytes: int) -> bytes:
    return sha256_reference.chunk_digests(Piece(data).tensor(), chunk_bytes)


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process in which Triton interprets; it ends with the module's tests."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=interpreted_hash.prepare
    ) as pool:
        yield pool


def in_python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("chunk_bytes", [-64, 0, 1, 63, 100, 16_383])
def test_a_chunk_that_is_no_whole_number_of_blocks_is_refused(chunk_bytes: int) -> None:
    with pytest.raises(LoadRefusedError, match="no chunk of"):
        chunk_digests_of_many([torch.zeros(100, dtype=torch.uint8)], chunk_bytes)


def test_tensors_of_two_devices_are_refused() -> None:
    with pytest.raises(LoadRefusedError, match="several devices"):
        chunk_digests_of_many([torch.zeros(4), torch.zeros(4, device="meta")], 64)


def test_a_machine_without_triton_is_told_what_to_install() -> None:
    in_python(
        "import sys, torch\n"
        "sys.modules['triton'] = None\n"
        "from inference.engine.sha256_kernel import chunk_digests\n"
        "from registry.errors import ConfigError\n"
        "try:\n"
        "    chunk_digests(torch.zeros(64), 64)\n"
        "except ConfigError as error:\n"
        "    told = 'triton is missing' in str(error) and 'build of torch' in error.hint\n"
        "    sys.exit(not told)\n"
        "sys.exit('not refused')\n"
    )


def test_without_a_gpu_nothing_of_ours_imports_triton() -> None:
    in_python(
        "import sys\n"
        "import inference.engine.sha256_kernel, inference.engine.sha256_reference\n"
        "import inference.resident\n"
        "sys.exit('triton' in sys.modules)\n"
    )


@pytest.mark.parametrize(("message", "digest"), VECTORS.items(), ids=lambda value: str(value)[:12])
def test_the_reference_gives_the_published_digests(message: bytes, digest: str) -> None:
    assert referenced(message, 1024).hex() == digest


@given(contents, lengths, st.integers(1, 300))
@settings(max_examples=60)
def test_the_reference_agrees_with_hashlib(content: bytes, length: int, chunk_bytes: int) -> None:
    assert referenced(content[:length], chunk_bytes) == hashed(content[:length], chunk_bytes)


def test_the_constants_are_roots_of_the_first_primes() -> None:
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
    for prime, constant in zip(primes, sha256_reference.ROUND_CONSTANTS, strict=True):
        # The 32 bits behind the point of a root are the root of the number shifted by 3 x 32.
        low = constant + (round(prime ** (1 / 3) - 0.5) << 32)
        assert low**3 <= prime << 96 < (low + 1) ** 3
    for prime, constant in zip(primes[:8], sha256_reference.INITIAL_STATE, strict=True):
        assert math.isqrt(prime << 64) % 2**32 == constant


@given(
    st.lists(st.tuples(contents, lengths, st.sampled_from([0, 0, 1, 2, 4, 8, 16])), max_size=4),
    st.sampled_from([64, 128, 256]),
)
@example([(b"a" * 64, 64, 0), (b"a" * 64, 64, 3)], 64)
@example([(bytes(64 * 33), 64 * 33, 0)], 64)
@settings(max_examples=25)
def test_the_kernel_agrees_with_hashlib_for_any_tensors(
    interpreter: ProcessPoolExecutor, tensors: list[tuple[bytes, int, int]], chunk_bytes: int
) -> None:
    pieces = [Piece(content[:length], offset) for content, length, offset in tensors]
    digests = interpreter.submit(interpreted_hash.digests, pieces, chunk_bytes).result()
    assert digests == [hashed(piece.data, chunk_bytes) for piece in pieces]


@pytest.mark.parametrize("offset", range(1, 18))
def test_a_view_that_begins_anywhere_is_hashed_rightly(
    interpreter: ProcessPoolExecutor, offset: int
) -> None:
    piece = Piece(Random(offset).randbytes(64 * 3 + 5), offset)
    digests = interpreter.submit(interpreted_hash.digests_of_one, piece, 64).result()
    assert digests == hashed(piece.data, 64)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64", "int64", "bool"])
def test_what_a_tensor_holds_does_not_matter(interpreter: ProcessPoolExecutor, dtype: str) -> None:
    piece = Piece(Random(dtype).randbytes(8 * 50), dtype=dtype)
    digests = interpreter.submit(interpreted_hash.digests_of_one, piece, 128).result()
    assert digests == hashed(piece.data, 128)


def test_a_transposed_tensor_is_hashed_in_its_own_order(interpreter: ProcessPoolExecutor) -> None:
    piece = Piece(Random(1).randbytes(400), dtype="bfloat16", transposed=True)
    in_order = np.frombuffer(piece.data, np.uint16).reshape(2, -1).T.tobytes()
    digests = interpreter.submit(interpreted_hash.digests_of_one, piece, 64).result()
    assert digests == hashed(in_order, 64) != hashed(piece.data, 64)


@pytest.mark.parametrize("bit", [0, 511, 512, 64 * 8 * 40 - 1])
def test_a_flipped_bit_changes_the_digest_of_its_chunk_alone(
    interpreter: ProcessPoolExecutor, bit: int
) -> None:
    content = bytearray(Random(bit).randbytes(64 * 40))
    content[bit // 8] ^= 1 << bit % 8
    before = hashed(Random(bit).randbytes(64 * 40), 64)
    after = interpreter.submit(interpreted_hash.digests_of_one, Piece(bytes(content)), 64).result()
    changed = [n for n in range(40) if before[32 * n : 32 * n + 32] != after[32 * n : 32 * n + 32]]
    assert changed == [bit // 512]


def test_chunks_of_the_size_that_records_use_agree_with_hashlib_and_the_reference(
    interpreter: ProcessPoolExecutor,
) -> None:
    pieces = [
        Piece(Random(size).randbytes(size))
        for size in (CHUNK_BYTES - 1, 3 * CHUNK_BYTES, 2 * CHUNK_BYTES + 100)
    ]
    digests = interpreter.submit(interpreted_hash.digests, pieces, CHUNK_BYTES).result()
    assert digests == [hashed(piece.data, CHUNK_BYTES) for piece in pieces]
    assert digests == [referenced(piece.data, CHUNK_BYTES) for piece in pieces]


def test_the_known_answer_is_given(interpreter: ProcessPoolExecutor) -> None:
    interpreter.submit(interpreted_hash.known_answer, 192).result()


def test_the_kernel_compiles_for_an_h200_as_its_speed_needs(tmp_path: Path) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from inference.engine.sha256_rounds import LANES, hash_chunks

    source = ASTSource(
        fn=hash_chunks,
        signature={"addresses": "*i64", "digests": "*u32", "count": "i32"}
        | dict.fromkeys(["BLOCKS", "ALIGNED", "LANES"], "constexpr"),
        constexprs={"BLOCKS": TENSOR_CHUNK_BYTES // 64, "ALIGNED": True, "LANES": LANES},
        attrs={(1,): [["tt.divisibility", 16]]},
    )
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path)
        options = {"num_warps": 1, "sanitize_overflow": False}
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert compiled.asm["ptx"].count("ld.global.v4.b32") == 4
    assert "shf.l.wrap.b32" in compiled.asm["ptx"]
    assert compiled.metadata.shared == 0
    binary = tmp_path / "hash_chunks.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    usage = subprocess.run(
        [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(binary)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = dict(re.findall(r"(\w+):(\d+)", usage))
    # 1024 threads share 65,536 registers; what lies in STACK or LOCAL was spilled.
    assert int(used["REG"]) <= 64
    assert used["STACK"] == used["LOCAL"] == "0"
