"""The forward pass on a CPU: our kernels over packed weights, for the Llama family."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from inference.engine.forward import NextLogits, Span
from inference.engine.kernels.attention import HEADS
from inference.engine.kernels.barrier import SLOTS
from inference.engine.kernels.decoder import step
from inference.engine.kernels.layout import Rows, Sizes, Space, Weights
from inference.engine.kernels.unit import processor
from inference.engine.kernels.vectors import PANEL, ROWS
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.packing import (
    NAME,
    PAIRED,
    SINGLE,
    groups,
    head_width,
    is_paired,
    padded_width,
)
from inference.engine.placement import private_memory
from inference.engine.sampling import Peak
from inference.engine.team import Team
from inference.errors import GenerationError

Floats = npt.NDArray[np.float32]
# What `Space.found` holds for each row: see `kernels.decoder`.
_FOUND = 5


class PackedForward:
    """Computes with a module's packed copy on a team of threads.

    In single precision, or where the copy is paired with products of bfloat16 numbers, whose sums
    are single precision: another result, so another `name`, which says the processor too, since in
    which order its unit adds is its maker's choice. At most `rows` tokens and `sequences`
    sequences at a time; `blocks` is the size of the cache.
    """

    is_invariant = True

    def __init__(
        self,
        module: PreTrainedModel,
        *,
        name: str,
        threads: int,
        blocks: int,
        rows: int,
        sequences: int,
        context: int,
    ) -> None:
        paired = is_paired(module)
        self.name = f"{PAIRED}-{processor()}" if paired else SINGLE
        self._sizes = _sizes(module, paired)
        self._weights = _weights(module)
        self._rows = rows
        self._space = _space(self._sizes, paired, threads, blocks, rows, sequences, context)
        self._table_width = blocks_for(context)
        self._team = Team(name, threads)
        self._compile()

    def run(self, spans: Many[Span]) -> list[NextLogits | None]:
        """Compute spans together; see `Forward`."""
        if sum(span.count for span in spans) > self._rows:
            # Kernels check no bounds.
            raise GenerationError("more tokens than a step has room for")
        rows = self._lay_out(spans)
        self._team.run(
            lambda me, team: step(self._sizes, self._weights, rows, self._space, me, team)
        )
        found = iter(range(len(rows.wanted)))
        return [self._next(next(found)) if span.is_last else None for span in spans]

    def close(self) -> None:
        """End the threads and let go of all memory, whoever still refers to this object."""
        self._team.close()
        for name in ("_weights", "_space"):
            vars(self).pop(name, None)

    def _compile(self) -> None:
        """Compile the kernels now, which takes seconds once on a machine: no call waits for it.

        One token is computed, in a block that nobody has yet.
        """
        one = np.zeros(1, dtype=np.int32)
        rows = Rows(one, one, np.arange(2, dtype=np.int32), one[None], one)
        step(self._sizes, self._weights, rows, self._space, 0, 1)

    def _lay_out(self, spans: Many[Span]) -> Rows:
        counts = [span.count for span in spans]
        starts = np.cumsum([0, *counts]).astype(np.int32)
        tables = np.zeros((len(spans), self._table_width), dtype=np.int32)
        for table, span in zip(tables, spans, strict=True):
            table[: len(span.sequence.blocks)] = span.sequence.blocks
        return Rows(
            tokens=np.array([t for span in spans for t in span.tokens], dtype=np.int32),
            positions=np.concatenate(
                [np.arange(s.start, s.start + s.count, dtype=np.int32) for s in spans]
            ),
            starts=starts,
            tables=tables,
            wanted=np.array(
                [end - 1 for end, s in zip(starts[1:], spans, strict=True) if s.is_last],
                dtype=np.int32,
            ),
        )

    def _next(self, index: int) -> NextLogits:
        at = index * self._sizes.vocabulary_step
        token, best, second, total, odd = self._space.found[index].tolist()
        peak = Peak(int(token), best, second, total if not odd else float("nan"))
        return NextLogits(self._space.logits[at : at + self._sizes.vocabulary], peak)


def _sizes(module: PreTrainedModel, paired: bool) -> Sizes:
    config = module.config
    width, kv = head_width(config), groups(config)
    heads = config.num_attention_heads
    taken = 2 if paired else 1
    return Sizes(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        heads=heads,
        groups=kv,
        width=width,
        padded_width=padded_width(config),
        inner=config.intermediate_size,
        vocabulary=config.vocab_size,
        hidden_step=_up(config.hidden_size, PANEL),
        qkv_step=_up((heads + 2 * kv) * width, PANEL),
        heads_step=_up(heads * width, PANEL),
        inner_step=_up(config.intermediate_size, PANEL),
        vocabulary_step=_up(config.vocab_size, PANEL),
        hidden_depth=_up(config.hidden_size, taken),
        heads_depth=_up(heads * width, taken),
        inner_depth=_up(config.intermediate_size, taken),
        epsilon=float(config.rms_norm_eps),
        scale=width**-0.5,
    )


def _weights(module: PreTrainedModel) -> Weights:
    packed: Any = module.get_submodule(NAME)
    decoder: Any = module.model
    return Weights(
        embedding=_flat(getattr(packed, "embedding", decoder.embed_tokens.weight)),
        norms=packed.norms.numpy(),
        qkv=_flat(packed.qkv),
        biases=packed.biases.numpy(),
        out=_flat(packed.out),
        gate_up=_flat(packed.gate_up),
        down=_flat(packed.down),
        head=_flat(packed.head),
        cosines=packed.cosines[0].numpy(),
        sines=packed.sines[0].numpy(),
    )


def _flat(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """Return a tensor's memory as the kernels read it: float32, or bfloat16 in uint16."""
    flat = tensor.detach().reshape(-1)
    return (flat.view(torch.uint16) if tensor.dtype == torch.bfloat16 else flat).numpy()


def _space(
    z: Sizes, paired: bool, threads: int, blocks: int, rows: int, sequences: int, context: int
) -> Space:
    kind = np.uint16 if paired else np.float32
    cache = z.layers * blocks * z.groups * z.padded_width * BLOCK
    return Space(
        keys=_large_zeros(cache, kind),
        values=_large_zeros(cache, kind),
        stream=_zeros(rows * z.hidden_step),
        qkv=_zeros(rows * z.qkv_step),
        heads=np.zeros(rows * z.heads_step, dtype=kind),
        inner=np.zeros(rows * z.inner_step, dtype=kind),
        own=np.zeros((threads, max(rows, sequences) * z.hidden_step), dtype=kind),
        scores=_zeros(threads, HEADS * (blocks_for(context) * BLOCK + 2 * z.padded_width)),
        spare=_zeros(threads, 2 * ROWS * PANEL),
        logits=_zeros(sequences * z.vocabulary_step),
        found=np.zeros((sequences, _FOUND)),
        barrier=np.zeros(SLOTS, dtype=np.int64),
    )


def _zeros(*shape: int) -> Floats:
    return np.zeros(shape, dtype=np.float32)


def _large_zeros(count: int, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return zeros that take no memory before they are written, and give it back at once."""
    size = np.dtype(kind).itemsize
    return np.frombuffer(private_memory(count * size), dtype=kind, count=count)


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
