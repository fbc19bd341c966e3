"""One step of a decoder of the Llama family: tokens in, logits out, on as many threads as come.

Every thread of a team calls `step` with the same arguments and its own number; they share the work
and meet at barriers. The interpreter is not held meanwhile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from inference.engine.kernels.barrier import meet
from inference.engine.kernels.lanes import LANES
from inference.engine.kernels.layout import Rows, Sizes, Space, Weights
from inference.engine.kernels.logits import summarise
from inference.engine.kernels.matmul import Matrix, Packed, multiply, multiply_gated, share
from inference.engine.kernels.self_attention import attend_all
from inference.engine.kernels.vectors import PANEL, put, sum_of_squares, widen


@njit(nogil=True, cache=True)
def step(z: Sizes, w: Weights, r: Rows, s: Space, me: int, team: int) -> None:
    """Do this thread's share of one step."""
    first, last = share(len(r.tokens), me, team)
    for row in range(first, last):
        _embed(z, w.embedding, r.tokens[row], s.stream, row)
    meet(s.barrier, team)
    for layer in range(z.layers):
        _attention(z, w, r, s, layer, me, team)
        _feed_forward(z, w, r, s, layer, me, team)
    _logits(z, w, r, s, me, team)
    # Afterwards no thread touches memory of this step any more.
    meet(s.barrier, team)


@njit(nogil=True, cache=True)
def _attention(z: Sizes, w: Weights, r: Rows, s: Space, layer: int, me: int, team: int) -> None:
    rows = len(r.tokens)
    normed = Matrix(s.own[me], z.hidden_step)
    # Each thread normalises all rows for itself: cheaper than waiting for the others to.
    for row in range(rows):
        _normalise(z, w.norms[2 * layer], s.stream, row, normed.numbers, row)
    panels = z.qkv_step // PANEL
    qkv = Packed(w.qkv, layer * panels * z.hidden_depth * PANEL, panels, z.hidden_depth)
    multiply(normed, qkv, Matrix(s.qkv, z.qkv_step), rows, False, me, team)
    meet(s.barrier, team)
    attend_all(z, w, r, s, layer, me, team)
    meet(s.barrier, team)
    panels, depth = z.hidden_step // PANEL, z.heads_depth
    out = Packed(w.out, layer * panels * depth * PANEL, panels, depth)
    stream = Matrix(s.stream, z.hidden_step)
    multiply(Matrix(s.heads, z.heads_step), out, stream, rows, True, me, team)
    meet(s.barrier, team)


@njit(nogil=True, cache=True)
def _feed_forward(z: Sizes, w: Weights, r: Rows, s: Space, layer: int, me: int, team: int) -> None:
    rows = len(r.tokens)
    normed, inner = Matrix(s.own[me], z.hidden_step), Matrix(s.inner, z.inner_step)
    for row in range(rows):
        _normalise(z, w.norms[2 * layer + 1], s.stream, row, normed.numbers, row)
    panels = 2 * z.inner_step // PANEL
    gate_up = Packed(w.gate_up, layer * panels * z.hidden_depth * PANEL, panels, z.hidden_depth)
    multiply_gated(normed, gate_up, inner, rows, s.spare[me], me, team)
    meet(s.barrier, team)
    panels = z.hidden_step // PANEL
    down = Packed(w.down, layer * panels * z.inner_depth * PANEL, panels, z.inner_depth)
    multiply(inner, down, Matrix(s.stream, z.hidden_step), rows, True, me, team)
    meet(s.barrier, team)


@njit(nogil=True, cache=True)
def _logits(z: Sizes, w: Weights, r: Rows, s: Space, me: int, team: int) -> None:
    """Make the logits of the wanted rows, and what most calls need to know of them."""
    count = len(r.wanted)
    normed = Matrix(s.own[me], z.hidden_step)
    for index in range(count):
        row = r.wanted[index]
        _normalise(z, w.norms[2 * z.layers], s.stream, row, normed.numbers, index)
    head = Packed(w.head, 0, z.vocabulary_step // PANEL, z.hidden_depth)
    multiply(normed, head, Matrix(s.logits, z.vocabulary_step), count, False, me, team)
    meet(s.barrier, team)
    first, last = share(count, me, team)
    for index in range(first, last):
        summarise(s.logits, index * z.vocabulary_step, z.vocabulary, s.found[index])


@njit(nogil=True, cache=True)
def _embed(z: Sizes, embedding: Any, token: int, stream: Any, row: int) -> None:
    at, place = token * z.hidden, row * z.hidden_step
    for number in range(z.hidden):
        stream[place + number] = widen(embedding[at + number])
    for number in range(z.hidden, z.hidden_step):
        stream[place + number] = np.float32(0)


@njit(nogil=True, cache=True)
def _normalise(z: Sizes, weight: Any, x: Any, row: int, y: Any, to: int) -> None:
    """Write the RMS norm of a row, times `weight`. Beyond the hidden size rows are zero."""
    at, place = row * z.hidden_step, to * z.hidden_step
    squares = sum_of_squares(x, at, z.hidden_step // LANES)
    mean = np.float32(squares / np.float32(z.hidden))
    scale = np.float32(np.float32(1) / np.sqrt(np.float32(mean + np.float32(z.epsilon))))
    for number in range(z.hidden):
        put(y, place + number, np.float32(x[at + number] * scale) * weight[number])
