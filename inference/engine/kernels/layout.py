"""What a step of a decoder is given: sizes, packed weights, rows to compute, memory to work in."""

from __future__ import annotations

from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """The shape of a model. Steps are how far rows lie apart, in numbers.

    Depths are how many inputs the matrices have that read such rows: in pairs, where the bfloat16
    unit multiplies, else as they are.
    """

    layers: int
    hidden: int
    heads: int
    groups: int
    width: int
    padded_width: int
    inner: int
    vocabulary: int
    hidden_step: int
    qkv_step: int
    heads_step: int
    inner_step: int
    vocabulary_step: int
    hidden_depth: int
    heads_depth: int
    inner_depth: int
    epsilon: float
    scale: float


class Weights(NamedTuple):
    """Packed weights, flat. Matrices are float32, or uint16 that holds bfloat16, maybe in pairs."""

    embedding: Any
    norms: Any
    qkv: Any
    biases: Any
    out: Any
    gate_up: Any
    down: Any
    head: Any
    cosines: Any
    sines: Any


class Rows(NamedTuple):
    """What is computed in one step.

    Row r is the token `tokens[r]` at `positions[r]`; sequence s has the rows starts[s] up to
    starts[s + 1] and the blocks `tables[s]`. Logits are made for the rows `wanted`.
    """

    tokens: Any
    positions: Any
    starts: Any
    tables: Any
    wanted: Any


class Space(NamedTuple):
    """Memory that a step works in. `own` and `scores` have a row for each thread.

    The cache (`keys`, `values`) and what goes into products (`own`, `heads`, `inner`) are float32,
    or bfloat16 in uint16 where the unit for it multiplies; all else is float32.
    """

    keys: Any
    values: Any
    stream: Any
    qkv: Any
    heads: Any
    inner: Any
    own: Any
    scores: Any
    spare: Any
    logits: Any
    found: Any
    barrier: Any
