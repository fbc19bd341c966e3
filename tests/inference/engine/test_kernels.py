"""The kernels: right within rounding, and the same bits whatever is computed beside."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from inference.engine.choosing import choose
from inference.engine.kernels.attention import HEADS, attend
from inference.engine.kernels.decoder import _normalise
from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.layout import Sizes
from inference.engine.kernels.logits import summarise
from inference.engine.kernels.matmul import Matrix, Packed, multiply, multiply_gated
from inference.engine.kernels.reductions import gate, weigh
from inference.engine.kernels.unit import has_bf16_unit
from inference.engine.kernels.vectors import PANEL, ROWS, put
from inference.engine.sampling import Peak, Sampling
from inference.engine.team import Team
from inference.errors import GenerationError

F32 = np.float32
EPSILON = float(np.finfo(F32).eps)
Floats = npt.NDArray[np.float32]


@njit
def weigh_all(x, highest):
    return weigh(x, 0, len(x) // LANES, highest)


@njit
def gate_all(x, ups, y):
    gate(x, 0, ups, y, 0, ups // LANES)


def filled(x: Floats) -> Floats:
    """Return a copy in whole vectors."""
    return np.concatenate([x, np.zeros(-len(x) % LANES, dtype=F32)])


def exp_all(x: Floats, y: Floats) -> None:
    whole = filled(x)
    weigh_all(whole, F32(0))
    y[:] = whole[: len(x)]


def silu_all(x: Floats, y: Floats) -> None:
    whole = filled(x)
    made = np.empty_like(whole)
    gate_all(np.concatenate([whole, np.ones_like(whole)]), len(whole), made)
    y[:] = made[: len(x)]


@njit
def attend_once(
    heads, q, keys, values, table, plane, step, width, position, scale, scores, out, wanted
):
    attend(
        heads, q, keys, values, table, plane, step, width, position, scale, scores, out, 0, wanted
    )


@njit
def put_all(y, numbers):
    for at in range(len(numbers)):
        put(y, at, numbers[at])


def widened(halves: npt.NDArray[np.uint16]) -> Floats:
    return (halves.astype(np.uint32) << 16).view(F32)


def bits(numbers: Floats) -> list[int]:
    return np.ascontiguousarray(numbers).view(np.uint32).tolist()


def random(seed: int, *shape: int) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


# Functions of one number


def every(step: int) -> Floats:
    """Return every `step`th number of single precision, both signs, NaN and infinities too."""
    return np.arange(0, 2**32, step, dtype=np.uint64).astype(np.uint32).view(F32)


def test_exp_is_within_two_units_in_the_last_place_over_its_whole_range() -> None:
    x = every(523)
    x = np.concatenate([x, np.linspace(-87, 88, 2_000_001, dtype=F32)])
    x = x[(x >= -87) & (x <= 88)]
    y = np.empty_like(x)
    exp_all(x, y)
    expected = np.exp(x.astype(np.float64))
    units = np.abs(y - expected) / np.spacing(expected.astype(F32))
    assert len(x) > 4_000_000
    assert units.max() <= 2


def test_exp_beyond_its_range_is_zero_or_its_largest_value_and_nan_stays_nan() -> None:
    x = np.array([-np.inf, -3e38, -87.0001, 88, 88.5, 3e38, np.inf, np.nan, -np.nan], dtype=F32)
    y = np.empty_like(x)
    exp_all(x, y)
    assert y[:3].tolist() == [0, 0, 0]
    assert y[4] == y[5] == y[6] == y[3] == pytest.approx(np.exp(88.0), rel=3e-7)
    assert np.isnan(y[7:]).all()
    signs = np.array([0.0, -0.0, 1e-45, -1e-45], dtype=F32)
    exp_all(signs, signs)
    assert signs.tolist() == [1, 1, 1, 1]


def test_exp_never_falls_where_its_argument_rises_by_much() -> None:
    x = np.linspace(-87, 88, 100_001, dtype=F32)
    y = np.empty_like(x)
    exp_all(x, y)
    assert (np.diff(y) > 0).all()


def test_exp_of_every_number_is_a_number_unless_it_is_none() -> None:
    x = every(1021)
    y = np.empty_like(x)
    exp_all(x, y)
    assert (np.isnan(x) == np.isnan(y)).all()
    assert np.isfinite(y[~np.isnan(x)]).all()
    assert (y[~np.isnan(x)] >= 0).all()


def test_rounding_to_bfloat16_is_torchs_for_every_kind_of_number() -> None:
    x = np.concatenate([every(1021), every(65536), every(65536).view(np.uint32).view(F32)])
    ties = np.arange(0x8000, 2**32, 0x10000, dtype=np.uint64).astype(np.uint32).view(F32)
    x = np.concatenate([x, ties])
    y = np.zeros(len(x), dtype=np.uint16)
    put_all(y, x)
    expected = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    assert (np.isnan(x) == np.isnan(widened(y))).all()
    known = ~np.isnan(x)
    assert bits(widened(y)[known]) == bits(expected[known])


def test_silu_equals_x_times_its_sigmoid() -> None:
    x = np.concatenate([np.linspace(-80, 200, 100_001, dtype=F32), random(1, 100_000) * F32(4)])
    y = np.empty_like(x)
    silu_all(x, y)
    wide = x.astype(np.float64)
    assert np.allclose(y, wide / (1 + np.exp(-wide)), rtol=5e-7, atol=1e-37)
    rare = np.array([np.nan, np.inf, 0.0, -3e38], dtype=F32)
    y = np.empty_like(rare)
    silu_all(rare, y)
    assert np.isnan(y[0])
    assert y[1:3].tolist() == [np.inf, 0]
    assert np.isfinite(y[3])


# Products


def packed(matrix: Floats) -> Floats:
    """Lay out (inputs, outputs), outputs in whole panels, as panels of (inputs, 64)."""
    inputs, outputs = matrix.shape
    return np.concatenate(
        [matrix[:, at : at + PANEL].reshape(-1) for at in range(0, outputs, PANEL)]
    ).reshape(outputs // PANEL * inputs * PANEL)


def aligned(numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Copy to where kernels expect weights: at a multiple of 64 bytes, as torch places them."""
    room = np.empty(numbers.nbytes + 64, dtype=np.uint8)
    at = -room.ctypes.data % 64
    found = room[at : at + numbers.nbytes].view(numbers.dtype)
    found[:] = numbers
    return found


WIDE, NARROW, PAIRED = "float32", "bfloat16", "pairs"
KINDS = [
    WIDE,
    NARROW,
    pytest.param(
        PAIRED,
        marks=pytest.mark.skipif(not has_bf16_unit(), reason="needs a processor's bfloat16 unit"),
    ),
]


def cut_short(x: Floats) -> Floats:
    """Return numbers that bfloat16 has, near `x`."""
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(F32)


def weights_of(depth: int, panels: int, kind: str) -> tuple[Floats, npt.NDArray[np.generic]]:
    """Return weights (depth, outputs) and what lies in memory for them."""
    wide = random(depth, depth, panels * PANEL)
    if kind == WIDE:
        return wide, aligned(packed(wide))
    wide = cut_short(wide)
    if kind == NARROW:
        return wide, aligned((packed(wide).view(np.uint32) >> 16).astype(np.uint16))
    even = np.concatenate([wide, np.zeros((depth % 2, panels * PANEL), dtype=F32)])
    # Two inputs of an output beside one another.
    pairs = even.reshape(-1, 2, panels, PANEL).transpose(2, 0, 3, 1)
    return wide, aligned(
        (np.ascontiguousarray(pairs).view(np.uint32) >> 16).astype(np.uint16).ravel()
    )


def inputs_of(x: Floats, kind: str) -> tuple[npt.NDArray[np.generic], int, int]:
    """Return rows as they lie in memory, how far apart, and how deep the product is.

    They lie further apart than they are long, among numbers that must not be read.
    """
    rows, depth = x.shape
    filled_up = depth + (depth % 2 if kind == PAIRED else 0)
    step = filled_up + 6
    wide = np.full((rows, step), np.nan, dtype=F32)
    wide[:, :filled_up], wide[:, :depth] = 0, x
    if kind != PAIRED:
        return wide.reshape(-1), step, depth
    return (wide.view(np.uint32) >> 16).astype(np.uint16).reshape(-1), step, filled_up


def product(
    x: Floats,
    flat: npt.NDArray[np.generic],
    panels: int,
    start: Floats | None,
    team: int,
    kind: str = WIDE,
) -> Floats:
    rows, step = len(x), panels * PANEL
    y = np.full((rows, step), np.nan, dtype=F32) if start is None else start.copy()
    numbers, apart, depth = inputs_of(x, kind)
    for me in range(team):
        multiply(
            Matrix(numbers, apart),
            Packed(flat, 0, panels, depth),
            Matrix(y.reshape(-1), step),
            rows,
            start is not None,
            me,
            team,
        )
    return y


@pytest.mark.skipif(not has_bf16_unit(), reason="needs a processor's bfloat16 unit")
@pytest.mark.parametrize("depth", [2, 7, 64, 577])
def test_the_bfloat16_unit_adds_the_second_of_a_pair_and_then_the_first(depth: int) -> None:
    wide, flat = weights_of(depth, 2, PAIRED)
    x = cut_short(random(depth + 1, 7, depth))
    expected = np.zeros((7, 2 * PANEL), dtype=F32)
    for first in range(0, depth, 2):
        for at in (first + 1, first):
            if at < depth:
                # The product of two bfloat16 is a float32: only the sum is rounded.
                expected += x[:, at, None] * wide[at]
    assert bits(product(x, flat, 2, None, 1, PAIRED)) == bits(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 7, 64, 129])
def test_products_of_one_to_twenty_rows_are_right_and_of_the_same_bits_as_alone(
    kind: str, depth: int
) -> None:
    panels = 3
    wide, flat = weights_of(depth, panels, kind)
    x, start = random(depth + 1, 20, depth), random(9, 20, panels * PANEL)
    if kind == PAIRED:
        x = cut_short(x)
    exact = x.astype(np.float64) @ wide
    bound = depth * EPSILON * (np.abs(x).astype(np.float64) @ np.abs(wide)) + 1e-30
    alone = [product(x[r : r + 1], flat, panels, None, 1, kind)[0] for r in range(20)]
    assert (np.abs(np.stack(alone) - exact) <= bound).all()
    for rows in range(1, 21):
        for team in (1, 2, 3):
            y = product(x[:rows], flat, panels, None, team, kind)
            assert bits(y) == bits(np.stack(alone[:rows]))
        y = product(x[:rows], flat, panels, start[:rows], 2, kind)
        assert bits(y) == bits(start[:rows] + np.stack(alone[:rows]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_that_is_not_a_number_spoils_no_other(kind: str) -> None:
    _, flat = weights_of(33, 2, kind)
    x = random(5, 9, 33)
    good = product(x, flat, 2, None, 1, kind)
    x[4, 7], x[6, 0] = np.nan, np.inf
    y = product(x, flat, 2, None, 2, kind)
    kept = [0, 1, 2, 3, 5, 7, 8]
    assert bits(y[kept]) == bits(good[kept])
    assert np.isnan(y[4]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gated_products_are_right_and_of_the_same_bits_as_alone(kind: str) -> None:
    depth, pairs = 37, 2
    wide, flat = weights_of(depth, 2 * pairs, kind)
    parts = wide.reshape(depth, pairs, 2, PANEL)
    gate, up = (parts[:, :, n].reshape(depth, -1).astype(np.float64) for n in (0, 1))
    x = random(2, 20, depth)
    if kind == PAIRED:
        x = cut_short(x)
    # What is made is rounded to eight bits where the next product is the unit's.
    error = 2**-8 if kind == PAIRED else 1e-4
    g = x @ gate
    expected = g / (1 + np.exp(-g)) * (x @ up)
    made = {}
    for rows in range(1, 21):
        for team in (1, 2, 3):
            y = np.full((rows, pairs * PANEL), np.nan, dtype=F32)
            made_of = (y.view(np.uint32) >> 16).astype(np.uint16) if kind == PAIRED else y
            numbers, apart, deep = inputs_of(x[:rows], kind)
            for me in range(team):
                multiply_gated(
                    Matrix(numbers, apart),
                    Packed(flat, 0, 2 * pairs, deep),
                    Matrix(made_of.reshape(-1), pairs * PANEL),
                    rows,
                    np.empty(2 * ROWS * PANEL, dtype=F32),
                    me,
                    team,
                )
            if kind == PAIRED:
                y = widened(made_of)
            assert np.allclose(y, expected[:rows], rtol=error, atol=1e-4)
            for row in range(rows):
                assert made.setdefault(row, bits(y[row])) == bits(y[row])


# Attention


@pytest.mark.parametrize("heads", [1, 2, 3, HEADS])
@pytest.mark.parametrize("narrow", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("width", [8, 16, 64, 80, 128])
def test_attention_equals_torchs_for_positions_across_the_borders_of_blocks(
    width: int, narrow: bool, heads: int
) -> None:
    padded = -(-width // LANES) * LANES
    blocks, planes = 12, 2
    step = planes * padded * LANES
    for position in (0, 1, 14, 15, 16, 17, 31, 32, 100, 159):
        count = position + 1
        k, v, q = random(position, count, width), random(2, count, width), random(3, heads, width)
        if narrow:
            k, v = cut_short(k), cut_short(v)
        # What nobody wrote for this sequence is not a number.
        keys = np.zeros((blocks, planes, padded, LANES), dtype=F32)
        values = np.zeros((blocks, planes, LANES, padded), dtype=F32)
        keys[:, :, :width], values[:, :, :, :width] = np.nan, np.nan
        table = np.random.default_rng(position).permutation(blocks).astype(np.int32)
        for token in range(count):
            block, slot = table[token // LANES], token % LANES
            keys[block, 1, :width, slot], values[block, 1, slot, :width] = k[token], v[token]
        query = np.zeros((heads, padded), dtype=F32)
        query[:, :width] = q
        out = np.full(heads * width + 3, 7, dtype=F32)
        scores = np.full(heads * (blocks * LANES + padded), np.nan, dtype=F32)
        if narrow:
            keys, values = (
                (part.view(np.uint32) >> 16).astype(np.uint16) for part in (keys, values)
            )
        attend_once(
            heads, query.reshape(-1), keys.reshape(-1), values.reshape(-1), table, padded * LANES,
            step, padded, position, F32(width**-0.5), scores, out, width,
        )  # fmt: skip
        expected = torch.nn.functional.scaled_dot_product_attention(
            *(torch.from_numpy(a).double()[:, None] for a in (q,)),
            *(torch.from_numpy(a).double().expand(heads, -1, -1) for a in (k, v)),
        )
        found = out[: heads * width].reshape(heads, width)
        assert np.allclose(found, expected[:, 0].numpy(), rtol=2e-5, atol=2e-6)
        assert out[heads * width :].tolist() == [7, 7, 7]


# Norms


@pytest.mark.parametrize("hidden", [1, 16, 48, 64, 100, 576])
def test_the_norm_equals_its_definition_and_leaves_other_rows_alone(hidden: int) -> None:
    step = -(-hidden // PANEL) * PANEL
    sizes = Sizes(*[0] * 18)._replace(hidden=hidden, hidden_step=step, epsilon=1e-5, scale=1.0)
    x = np.zeros((3, step), dtype=F32)
    x[:, :hidden] = random(hidden, 3, hidden) * F32(3)
    weight, y = random(1, hidden), np.full((3, step), 5, dtype=F32)
    _normalise(sizes, weight, x.reshape(-1), 1, y.reshape(-1), 2)
    wide = x[1, :hidden].astype(np.float64)
    expected = wide / np.sqrt((wide**2).mean() + 1e-5) * weight
    assert np.allclose(y[2, :hidden], expected, rtol=2e-6, atol=1e-7)
    assert (y[:2] == 5).all()


# What is known of logits


def summary(logits: Floats) -> Peak:
    found = np.full(5, np.nan)
    # What stands before and after it is none of it.
    row = np.full(len(logits) + 3 * LANES, 99, dtype=F32)
    row[LANES : LANES + len(logits)] = logits
    summarise(row, LANES, len(logits), found)
    token, best, second, total, odd = found.tolist()
    return Peak(int(token), best, second, total if not odd else float("nan"))


@pytest.mark.parametrize(
    "logits",
    [
        [np.nan, 1.0],
        [1.0, np.nan],
        [1.0] * 16 + [np.nan],
        [np.nan] * 20,
        [np.inf, 1.0],
        [np.inf, np.inf],
        [-np.inf] * 17,
        [1.0, np.inf, np.nan],
    ],
)
def test_logits_that_are_not_numbers_are_refused_like_in_sampling(logits: list[float]) -> None:
    found = np.array(logits, dtype=F32)
    for choice in (summary(found).choice, lambda: choose(found, Sampling(1), 0)):
        with pytest.raises(GenerationError, match="not numbers"):
            choice()


NUMBER = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.5, -2.0, -np.inf, 80.0]), st.floats(-90, 90, width=32)
)


@given(st.lists(NUMBER, min_size=1, max_size=70))
def test_the_summary_is_what_sampling_finds_ties_and_all(numbers: list[float]) -> None:
    logits = np.array(numbers, dtype=F32)
    if not np.isfinite(logits.max()):
        return
    expected = choose(logits, Sampling(1), 0)
    found = summary(logits).choice()
    assert (found.token, found.margin) == (expected.token, expected.margin)
    assert found.logprob == pytest.approx(expected.logprob, rel=1e-6, abs=1e-6)


@given(st.integers(1, 200), st.integers(0, 99))
def test_the_summary_of_any_vocabulary_sees_the_last_token_too(size: int, seed: int) -> None:
    logits = random(seed, size)
    for at in (0, size // 2, size - 1):
        raised = logits.copy()
        raised[at] = 50
        assert summary(raised).token == at


# Teams


@pytest.fixture
def team() -> Iterator[Team]:
    running = Team("test-team", 3)
    yield running
    running.close()


def test_a_team_enters_with_every_number_once_and_ends(team: Team) -> None:
    seen: list[tuple[int, int]] = []
    barrier = threading.Barrier(3)

    def kernel(me: int, size: int) -> None:
        seen.append((me, size))
        barrier.wait(30)

    for _ in range(50):
        team.run(kernel)
    team.close()
    team.close()
    assert sorted(seen) == sorted([(me, 3) for me in range(3)] * 50)
    assert not any("test-team" in thread.name for thread in threading.enumerate())
