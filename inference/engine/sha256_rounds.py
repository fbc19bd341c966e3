"""SHA-256 on the GPU, the part that runs there: one thread hashes one chunk.

Only `inference.engine.sha256_kernel` imports this, and only when there is something to hash on a
GPU: a node without one never loads Triton.

Why it is bound by arithmetic. A block of 64 bytes costs 14 instructions a round (6 rotations,
4 three-input logic operations, 4 additions), 10 for each of the 48 words that the schedule adds
(4 rotations, 2 shifts, 2 logic operations, 2 additions), 16 to swap bytes and 8 to add the state:
64 x 14 + 48 x 10 + 16 + 8 = 1400, or 22 instructions a byte. The code compiled for an H200 has
1410 in its loop, of which 1282 (20 a byte) need the integer units. Those of an H200 do
132 processors x 64 lanes x 1.98 GHz = 16.7 T instructions/s: at most 830 GB/s, a sixth of what its
memory delivers. So nothing is won by reading more cleverly than below, and much by keeping the
integer units busy.

Why a thread reads its own chunk. The chunks of a warp lie 64 KiB apart, so their reads cannot be
joined; but each thread reads whole 64-byte blocks in four 16-byte loads that follow one another,
so both 32-byte sectors of memory are used up while they lie in the first-level cache: no byte
crosses the memory bus twice. Reading tiles together and transposing them in shared memory would
save only cache lookups, and cost barriers and registers.

Why 32 lanes to a program. The lanes share nothing, so a program is one warp, and the few warps of
a small model spread over all processors. The code takes 53 registers, none spilled, so that a
processor holds 32 programs (its limit), 1024 threads: 8 warps to each of its four schedulers,
where 2 hide the latency of arithmetic and the others that of memory.
"""

from __future__ import annotations

from typing import Final

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]

from inference.engine.sha256_reference import INITIAL_STATE, ROUND_CONSTANTS

LANES: Final = 32
_K: Final = tl.constexpr(ROUND_CONSTANTS)
_H: Final = tl.constexpr(INITIAL_STATE)


# One compilation for any number of chunks and any place in the table of addresses. Triton has no
# type information, so that mypy lets neither its import nor its decorator pass.
@triton.jit(  # type: ignore[untyped-decorator]
    do_not_specialize=["count"], do_not_specialize_on_alignment=["addresses"]
)
def hash_chunks(
    addresses: tl.tensor,
    digests: tl.tensor,
    count: tl.tensor,
    BLOCKS: tl.constexpr,
    ALIGNED: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """Write the SHA-256 of each of `count` chunks, each of `BLOCKS` blocks of 64 bytes.

    `addresses` (i64) says where each chunk lies; with `ALIGNED`, all are multiples of 16.
    `digests` (u32, 8 to a chunk) gets bytes in the order in which digests are written.
    """
    # 64-bit numbers: the digests of 64 GB and more begin beyond 2^31 bytes.
    lane = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    real = lane < count
    # A lane too many hashes chunk 0 again and writes nothing: no load below needs a mask.
    address = tl.load(addresses + tl.where(real, lane, 0))
    zero = tl.zeros((LANES,), tl.uint32)
    upper = (zero + _H[0], zero + _H[1], zero + _H[2], zero + _H[3])
    lower = (zero + _H[4], zero + _H[5], zero + _H[6], zero + _H[7])
    state = upper + lower
    for block in range(BLOCKS):
        state = _compress(state, _block(address + block * 64, ALIGNED, LANES))
    # The padding of a chunk of whole blocks is one block that is the same for all: the compiler
    # works its schedule out. A one bit, zeros, the length in bits.
    one = (zero + 0x80000000,)
    length = (zero + (BLOCKS * 512 >> 32), zero + (BLOCKS * 512 & 0xFFFFFFFF))
    state = _compress(state, one + (zero,) * 13 + length)
    # One store of eight columns: of eight stores Triton would take twice as long to compile each.
    even = tl.join(tl.join(state[0], state[4]), tl.join(state[2], state[6]))
    odd = tl.join(tl.join(state[1], state[5]), tl.join(state[3], state[7]))
    digest = tl.reshape(tl.join(even, odd), (LANES, 8))
    place = digests + lane[:, None] * 8 + tl.arange(0, 8)[None, :]
    tl.store(place, _swapped(digest), mask=real[:, None])


@triton.jit  # type: ignore[untyped-decorator]
def _compress(state: tl.tuple, words: tl.tuple) -> tl.tuple:
    """Take one block of 16 words into the state: FIPS 180-4, 6.2.2, unrolled.

    `words` is always the 16 last words of the schedule, so that it stays in registers. The
    compiler makes one instruction of each rotation, which is written out because Triton's
    interpreter takes long to call a function.
    """
    a, b, c, d, e, f, g, h = state
    for t in tl.static_range(64):
        if t >= 16:
            x, y = words[1], words[14]
            sigma0 = ((x >> 7) | (x << 25)) ^ ((x >> 18) | (x << 14)) ^ (x >> 3)
            sigma1 = ((y >> 17) | (y << 15)) ^ ((y >> 19) | (y << 13)) ^ (y >> 10)
            newest = (words[0] + sigma0 + words[9] + sigma1,)
            words = words[1:] + newest
        word = words[t if t < 16 else 15]
        sum1 = ((e >> 6) | (e << 26)) ^ ((e >> 11) | (e << 21)) ^ ((e >> 25) | (e << 7))
        sum0 = ((a >> 2) | (a << 30)) ^ ((a >> 13) | (a << 19)) ^ ((a >> 22) | (a << 10))
        # The choice as `g ^ (e & (f ^ g))`: Triton's interpreter cannot invert unsigned words.
        first = h + sum1 + (g ^ (e & (f ^ g))) + _K[t] + word
        second = sum0 + ((a & b) ^ (a & c) ^ (b & c))
        h = g
        g = f
        f = e
        e = d + first
        d = c
        c = b
        b = a
        a = first + second
    upper = (state[0] + a, state[1] + b, state[2] + c, state[3] + d)
    lower = (state[4] + e, state[5] + f, state[6] + g, state[7] + h)
    return upper + lower


@triton.jit  # type: ignore[untyped-decorator]
def _block(address: tl.tensor, ALIGNED: tl.constexpr, LANES: tl.constexpr) -> tl.tuple:
    """Return the 16 big-endian words of the 64 bytes at each address."""
    half = _four_words(address, ALIGNED, LANES) + _four_words(address + 16, ALIGNED, LANES)
    other = _four_words(address + 32, ALIGNED, LANES) + _four_words(address + 48, ALIGNED, LANES)
    return half + other


@triton.jit  # type: ignore[untyped-decorator]
def _four_words(address: tl.tensor, ALIGNED: tl.constexpr, LANES: tl.constexpr) -> tl.tuple:
    row = _aligned_row(address) if ALIGNED else _odd_row(address)
    even, odd = tl.split(tl.reshape(row, (LANES, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return (first, second, third, fourth)


@triton.jit  # type: ignore[untyped-decorator]
def _aligned_row(address: tl.tensor) -> tl.tensor:
    """Read four words a lane in one load. Saying that they are aligned is what makes it one."""
    tl.device_assert(address % 16 == 0, "an address at an odd place")
    start = tl.multiple_of(address.to(tl.pointer_type(tl.uint32)), 16)
    return _swapped(tl.load(start[:, None] + tl.arange(0, 4)[None, :]))


@triton.jit  # type: ignore[untyped-decorator]
def _odd_row(address: tl.tensor) -> tl.tensor:
    """Read four words a lane byte by byte, wherever they lie: for the rare view at an odd place."""
    start = address.to(tl.pointer_type(tl.uint8))
    place = tl.arange(0, 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    row = tl.load(start[:, None, None] + place[None, :, :]).to(tl.uint32)
    return tl.sum(row << (24 - 8 * tl.arange(0, 4))[None, None, :], axis=2)


@triton.jit  # type: ignore[untyped-decorator]
def _swapped(word: tl.tensor) -> tl.tensor:
    """Turn little-endian words into big-endian ones; the compiler makes one instruction of it."""
    return (word >> 24) | ((word >> 8) & 0xFF00) | ((word << 8) & 0xFF0000) | (word << 24)
