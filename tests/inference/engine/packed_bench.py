"""A packed model and its forward pass, without an engine around: spans by hand."""

from __future__ import annotations

from collections.abc import Sequence as Many
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from inference.engine.forward import Span
from inference.engine.kv_cache import BLOCK, blocks_for
from inference.engine.packed_forward import PackedForward
from inference.engine.packing import pack
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest, Sequence

CONTEXT = 160
VOCABULARY = 250
Bits = npt.NDArray[np.uint32]


def module(
    kind: str = "llama",
    *,
    hidden: int = 48,
    heads: int = 4,
    groups: int = 2,
    width: int | None = None,
    inner: int = 72,
    vocabulary: int = VOCABULARY,
    dtype: torch.dtype = torch.float32,
    **more: Any,
) -> PreTrainedModel:
    """Return a small decoder with random weights; sizes are no multiples of a panel."""
    how: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "max_position_embeddings": CONTEXT,
        **more,
    }
    if width is not None:
        how["head_dim"] = width
    made = (
        LlamaForCausalLM(LlamaConfig(**how))
        if kind == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**how))
    )
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    return made.to(dtype).train(False).requires_grad_(False)


class PackedBench:
    """Sequences with blocks chosen by the test, computed by the kernels."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        threads: int = 1,
        blocks: int = 60,
        paired: bool = False,
    ) -> None:
        if not hasattr(model, "packed"):
            pack(model, CONTEXT, paired=paired)
        self.forward = PackedForward(
            model,
            name="bench",
            threads=threads,
            blocks=blocks,
            rows=700,
            sequences=16,
            context=CONTEXT,
        )
        self._blocks = blocks
        self.forget()

    def close(self) -> None:
        self.forward.close()

    def forget(self) -> None:
        """Make every block free, though not empty: examples may break off in their midst."""
        self._free = list(range(self._blocks))

    def sequence(self, tokens: Many[int], blocks: Many[int] = ()) -> Sequence:
        """Return a sequence of a prompt in the given blocks and as many others as it needs."""
        made = Sequence(
            id="",
            request=GenerationRequest(tuple(tokens), Sampling(1)),
            outlet=None,  # type: ignore[arg-type]  # nobody reads
            detokenizer=None,  # type: ignore[arg-type]
        )
        fresh = blocks_for(len(tokens)) - len(blocks)
        made.blocks = [*blocks, *(self._free.pop(0) for _ in range(fresh))]
        return made

    def give_back(self, *sequences: Sequence) -> None:
        """Make the blocks of sequences the next ones to be taken."""
        self._free = [*(b for s in sequences for b in s.blocks), *self._free]

    def run(self, *spans: Span) -> list[Bits | None]:
        """Compute spans together; return the bits of their logits."""
        return [
            None if found is None else np.array(found.logits).view(np.uint32)
            for found in self.forward.run(spans)
        ]

    def alone(self, tokens: Many[int]) -> Bits:
        """Return the bits of a prompt's logits, computed in one piece and alone."""
        sequence = self.sequence(tokens)
        found = self.run(Span(sequence, 0, len(tokens)))[0]
        self.give_back(sequence)
        assert found is not None
        return found


def cut(sequence: Sequence, places: Many[int], start: int = 0) -> list[Span]:
    """Return a prompt as spans, cut at places from `start` on."""
    ends = [*sorted({p for p in places if start < p < len(sequence.tokens)}), len(sequence.tokens)]
    spans = []
    for end in ends:
        spans.append(Span(sequence, start, end - start))
        start = end
    return spans


def prompt(seed: int, size: int) -> list[int]:
    return np.random.default_rng(seed).integers(10, VOCABULARY, size).tolist()


def together(bench: PackedBench, queues: list[list[Span]]) -> list[Bits]:
    """Compute each queue's spans in order, the first of all queues together; return last logits."""
    last: list[Bits | None] = [None] * len(queues)
    queues = [list(queue) for queue in queues]
    while any(queues):
        turn = [number for number, queue in enumerate(queues) if queue]
        for number, found in zip(turn, bench.run(*(queues[n].pop(0) for n in turn)), strict=True):
            last[number] = found
    assert all(found is not None for found in last)
    return last  # type: ignore[return-value]


__all__ = ["BLOCK", "CONTEXT", "VOCABULARY", "PackedBench", "cut", "module", "prompt", "together"]
