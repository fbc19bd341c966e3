"""Drawing a token by the Gumbel-max trick, without making noise for tokens that cannot win.

The noise of token i at a position is g = -log(-log u), where u is the i-th number of Philox 4x64-10
(Salmon et al. 2011) with key (seed, choice) and the position in the third counter word. A token
whose scaled logit is s beats a score b only if g > b - s, that is -log u < e^(s - b). As -log u is
at least 1 - u, a comparison without logarithms rules out nearly all.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_MULTIPLIER_0: Final = np.uint64(0xD2E7470EE14C6C93)
_MULTIPLIER_1: Final = np.uint64(0xCA5A826395121157)
_WEYL_0: Final = np.uint64(0x9E3779B97F4A7C15)
_WEYL_1: Final = np.uint64(0xBB67AE8584CAA73B)
_ROUNDS: Final = 10
# A number is 53 bits, moved half a step off zero: both logarithms are finite.
_UNUSED_BITS: Final = np.uint64(11)
_STEP: Final = 2.0**-53
# Covers the rounding of exponential functions on both sides of a comparison.
_SLACK: Final = 1.0 + 1e-9


@intrinsic
def _product(typing, a, b):
    """Return the upper and the lower half of the 128-bit product of two uint64."""
    signature = types.UniTuple(types.uint64, 2)(types.uint64, types.uint64)

    def code(context, builder, signature, arguments):
        wide, narrow = ir.IntType(128), ir.IntType(64)
        a_, b_ = (builder.zext(value, wide) for value in arguments)
        whole = builder.mul(a_, b_)
        upper = builder.trunc(builder.lshr(whole, ir.Constant(wide, 64)), narrow)
        return context.make_tuple(
            builder, signature.return_type, (upper, builder.trunc(whole, narrow))
        )

    return signature, code


@njit(nogil=True, cache=True)
def four_numbers(index: int, position: int, seed: int, choice: int) -> Any:
    """Return numbers 4 · index to 4 · index + 3 at a position, each of 64 bits."""
    # The counter is stepped before it is used.
    a, b = np.uint64(index + 1), np.uint64(0)
    c, d = np.uint64(position), np.uint64(0)
    k0, k1 = np.uint64(seed), np.uint64(choice)
    for _ in range(_ROUNDS):
        high_0, low_0 = _product(_MULTIPLIER_0, a)
        high_1, low_1 = _product(_MULTIPLIER_1, c)
        a, b, c, d = high_1 ^ b ^ k0, low_1, high_0 ^ d ^ k1, low_0
        k0, k1 = k0 + _WEYL_0, k1 + _WEYL_1
    return a, b, c, d


@njit(nogil=True, cache=True)
def draw(scaled: Any, kept: Any, position: int, seed: int, choice: int) -> Any:
    """Return the token with the highest scaled logit plus noise, and by how much it is ahead.

    `scaled` (vocabulary,) float64 has 0 as its highest number; where the bool array `kept` is not
    empty, only tokens it marks take part. Equal values are ordered by lower token id.
    """
    best, second, token = -np.inf, -np.inf, -1
    bound = 0.0  # e^second: what a token must beat to matter
    every = len(kept) == 0
    for index in range((len(scaled) + 3) // 4):
        numbers = four_numbers(index, position, seed, choice)
        for part in range(4):
            at = 4 * index + part
            if at >= len(scaled) or not (every or kept[at]):
                continue
            u = (float(numbers[part] >> _UNUSED_BITS) + 0.5) * _STEP
            if (1.0 - u) * bound > math.exp(scaled[at]) * _SLACK:
                continue
            score = scaled[at] - math.log(-math.log(u))
            if score > best:
                best, second, token = score, best, at
            elif score > second:
                second = score
            else:
                continue
            bound = math.exp(min(second, 700.0))
    return token, best - second


@njit(nogil=True, cache=True)
def mark_kept(scaled: Any, top_k: int, top_p: float, kept: Any) -> None:
    """Mark the tokens that top-k and then top-p keep. `top_k` 0 and `top_p` 1 keep all."""
    count = len(scaled)
    kept[:] = True
    if 0 < top_k < count:
        _keep_highest(scaled, top_k, kept)
    if top_p < 1:
        _keep_nucleus(scaled, top_p, kept)


@njit(nogil=True, cache=True)
def _keep_highest(scaled: Any, limit: int, kept: Any) -> None:
    """Keep the `limit` highest; of equal ones those with the lowest ids."""
    edge = np.partition(scaled, len(scaled) - limit)[len(scaled) - limit]
    above = 0
    for at in range(len(scaled)):
        above += scaled[at] > edge
    room = limit - above
    for at in range(len(scaled)):
        if scaled[at] == edge and room > 0:
            room -= 1
        elif scaled[at] <= edge:
            kept[at] = False


@njit(nogil=True, cache=True)
def _keep_nucleus(scaled: Any, share: float, kept: Any) -> None:
    """Keep the likeliest tokens, each while those before it have less than `share` of the whole."""
    weights = np.zeros(len(scaled))
    total = 0.0
    for at in range(len(scaled)):
        if kept[at]:
            weights[at] = math.exp(scaled[at])
            total += weights[at]
    # All that are lighter than this have less than 1 - share together: none of them is kept.
    least = (1.0 - share) * total / len(scaled) / _SLACK
    heavy = np.nonzero(weights > least)[0]
    # Stable, so that of equal ones the lowest id comes first.
    order = heavy[np.argsort(-scaled[heavy], kind="mergesort")]
    kept[:] = False
    before = 0.0
    for number in range(len(order)):
        if number and before >= share * total:
            break
        kept[order[number]] = True
        before += weights[order[number]]
