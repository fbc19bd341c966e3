"""SHA-256 of many chunks at once, on the CPU: the plain text that the GPU's kernel is tested by.

Written from FIPS 180-4 (Secure Hash Standard, NIST 2015), whose section numbers and names are used
here. All chunks take each step together, one number of an array for each. It is exact and slow;
what needs speed on a CPU uses hashlib, what needs it on a GPU `inference.engine.sha256_kernel`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch

Words = npt.NDArray[np.uint32]

BLOCK_BYTES: Final = 64
DIGEST_BYTES: Final = 32
# 4.2.2: the first 32 bits of the fractional parts of the cube roots of the first 64 primes.
ROUND_CONSTANTS: Final = (
    *(0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4),
    *(0xAB1C5ED5, 0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE),
    *(0x9BDC06A7, 0xC19BF174, 0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F),
    *(0x4A7484AA, 0x5CB0A9DC, 0x76F988DA, 0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7),
    *(0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967, 0x27B70A85, 0x2E1B2138, 0x4D2C6DFC),
    *(0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85, 0xA2BFE8A1, 0xA81A664B),
    *(0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070, 0x19A4C116),
    *(0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3),
    *(0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7),
    0xC67178F2,
)
# 5.3.3: the same of the square roots of the first eight primes.
INITIAL_STATE: Final = (
    *(0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A),
    *(0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19),
)


def chunk_digests(data: torch.Tensor, chunk_bytes: int) -> bytes:
    """Return the SHA-256 of each chunk of `chunk_bytes` bytes, one after another.

    `data` is a 1-D uint8 tensor on the CPU, of any length; the last chunk may be shorter.
    """
    flat = data.numpy()
    cut = flat.size - flat.size % chunk_bytes
    digests = _hash(flat[:cut].reshape(-1, chunk_bytes)) if cut else b""
    return digests + (_hash(flat[cut:].reshape(1, -1)) if cut < flat.size else b"")


def _hash(messages: npt.NDArray[np.uint8]) -> bytes:
    """Return the digests of messages of one length: an array of shape (messages, bytes)."""
    blocks = _parsed(messages)
    state = [np.full(len(messages), word, np.uint32) for word in INITIAL_STATE]
    for number in range(blocks.shape[1]):
        state = _compress(state, list(blocks[:, number].T))
    return np.stack(state, axis=1).astype(">u4").tobytes()


def _parsed(messages: npt.NDArray[np.uint8]) -> Words:
    """Pad (5.1.1) and parse into words (5.2.1): an array of shape (messages, blocks, 16).

    A one bit, zeros, and the length in bits as a 64-bit number fill up whole blocks.
    """
    count, length = messages.shape
    zeros = -(length + 9) % BLOCK_BYTES
    end = b"\x80" + bytes(zeros) + (8 * length).to_bytes(8, "big")
    padding = np.broadcast_to(np.frombuffer(end, np.uint8), (count, len(end)))
    padded = np.ascontiguousarray(np.concatenate([messages, padding], axis=1))
    return padded.view(">u4").astype(np.uint32).reshape(count, -1, 16)


def _compress(state: list[Words], schedule: list[Words]) -> list[Words]:
    """Take one block into the state (6.2.2); `schedule` begins as the block's 16 words."""
    for t in range(16, 64):
        before, after = schedule[t - 15], schedule[t - 2]
        sigma0 = _rotr(before, 7) ^ _rotr(before, 18) ^ before >> 3
        sigma1 = _rotr(after, 17) ^ _rotr(after, 19) ^ after >> 10
        schedule.append(sigma1 + schedule[t - 7] + sigma0 + schedule[t - 16])
    a, b, c, d, e, f, g, h = state
    for constant, word in zip(ROUND_CONSTANTS, schedule, strict=True):
        choice = e & f ^ ~e & g
        majority = a & b ^ a & c ^ b & c
        sum1 = _rotr(e, 6) ^ _rotr(e, 11) ^ _rotr(e, 25)
        sum0 = _rotr(a, 2) ^ _rotr(a, 13) ^ _rotr(a, 22)
        first = h + sum1 + choice + np.uint32(constant) + word
        a, b, c, d, e, f, g, h = first + sum0 + majority, a, b, c, d + first, e, f, g
    return [old + new for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


def _rotr(words: Words, bits: int) -> Words:
    """Rotate each word to the right (3.2, 4)."""
    return words >> np.uint32(bits) | words << np.uint32(32 - bits)
