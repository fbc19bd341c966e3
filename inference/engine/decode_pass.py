"""A decode step on a GPU: one token of each of many sequences, recorded once and played again.

Launching the kernels of a step one by one from Python takes longer than a GPU takes to run them.
A CUDA graph is the recording of all of them: it is played with one call, over the very memory it
was recorded with. So a pass has inputs of fixed size, and rows that a step does not need are given
to the scratch block, which no sequence has.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from collections.abc import Sequence as Many
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import torch
from transformers import PreTrainedModel

from inference.engine.forward import Span
from inference.engine.kv_cache import BLOCK
from registry.errors import ConfigError

# Passes are made for so many sequences; a step takes the next larger one.
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64)
# Before a recording: what is only done once, like choosing algorithms, must not be in it.
_REHEARSALS: Final = 2


class Attend(Protocol):
    """Attention over blocks: `paged_attention.attend`."""

    def __call__(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        tables: torch.Tensor,
        lengths: torch.Tensor,
        *,
        scale: float,
    ) -> torch.Tensor:
        """Return (heads, sequences, width)."""


@dataclass(frozen=True)
class Decoding:
    """What attention is told in a decode pass. Row r belongs to sequence r.

    `fresh` is the block of a row that is written for the first time, else the scratch block.
    """

    keys: torch.Tensor
    values: torch.Tensor
    blocks: torch.Tensor
    slots: torch.Tensor
    fresh: torch.Tensor
    tables: torch.Tensor
    lengths: torch.Tensor
    attend: Attend

    def attention(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float | None,
    ) -> torch.Tensor:
        """Write keys and values of a layer's new tokens, and attend: (heads, sequences, width)."""
        keys, values = self.keys[layer], self.values[layer]
        # As `module_forward` does: later chunks read whole blocks.
        keys[self.fresh], values[self.fresh] = 0, 0
        keys[self.blocks, :, self.slots] = key.transpose(0, 1)
        values[self.blocks, :, self.slots] = value.transpose(0, 1)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        return self.attend(query, keys, values, self.tables, self.lengths, scale=scale)


class DecodePass:
    """A pass for at most `size` sequences of at most `width` blocks each."""

    def __init__(
        self,
        module: PreTrainedModel,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        size: int,
        width: int,
        attend: Attend,
    ) -> None:
        self.size: Final = size
        self._module: Final = module
        self._device: Final = keys.device
        self._width: Final = width
        self._scratch: Final = keys.shape[1] - 1
        # One transfer a step: a row of each kind of number, then the tables.
        self._numbers: Final = torch.empty(
            (size, 6 + width), dtype=torch.long, pin_memory=keys.is_cuda
        )
        self._inputs: Final = torch.empty_like(self._numbers, device=self._device)
        self._clear()
        self._inputs.copy_(self._numbers)
        columns = self._inputs.unbind(1)
        self._tokens: Final = columns[0]
        self._positions: Final = columns[1]
        self._decoding: Final = Decoding(
            keys,
            values,
            blocks=columns[2],
            slots=columns[3],
            fresh=columns[4],
            lengths=columns[5],
            tables=self._inputs[:, 6:],
            attend=attend,
        )
        self._play: Callable[[], torch.Tensor] = self._recorded() if keys.is_cuda else self._step

    def run(self, spans: Many[Span]) -> torch.Tensor:
        """Compute one token of each span; return their logits (spans, vocabulary) in float32."""
        self._clear()
        rows = [self._row(span) for span in spans]
        self._numbers[: len(rows)] = torch.tensor(rows, dtype=torch.long)
        self._inputs.copy_(self._numbers, non_blocking=True)
        return self._play()[: len(spans)].float().cpu()

    def _row(self, span: Span) -> list[int]:
        blocks, position = span.sequence.blocks, span.start
        block, slot = blocks[position // BLOCK], position % BLOCK
        table = (blocks + [self._scratch] * self._width)[: self._width]
        fresh = block if slot == 0 else self._scratch
        return [*span.tokens, position, block, slot, fresh, position + 1, *table]

    def _clear(self) -> None:
        """Give every row to the scratch block, of which it reads one token."""
        self._numbers.fill_(self._scratch)
        self._numbers[:, (0, 1, 3)] = 0
        self._numbers[:, 5] = 1

    def _step(self) -> torch.Tensor:
        output: Any = self._module(
            input_ids=self._tokens[None],
            position_ids=self._positions[None],
            use_cache=False,
            logits_to_keep=0,
            reading=self._decoding,
        )
        logits: torch.Tensor = output.logits[0]
        return logits

    def _recorded(self) -> Callable[[], torch.Tensor]:
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch's
        aside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(aside):
            for _ in range(_REHEARSALS):
                self._step()
        torch.cuda.current_stream(self._device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._step()

        def play() -> torch.Tensor:
            graph.replay()
            return logits

        return play


class DecodePasses:
    """The passes of a model, each made when a step first needs it."""

    def __init__(
        self,
        module: PreTrainedModel,
        keys: torch.Tensor,
        values: torch.Tensor,
        *,
        width: int,
        attend: Attend,
    ) -> None:
        """`keys` and `values` are (layers, blocks, heads, 16, width); the last block is scratch.

        `width` is the most blocks of a sequence.
        """
        self._make: Final = partial(DecodePass, module, keys, values, width=width, attend=attend)
        self._passes: dict[int, DecodePass] = {}

    def run(self, spans: Many[Span]) -> torch.Tensor:
        """Compute one token of each span; return their logits (spans, vocabulary)."""
        size = next((size for size in _SIZES if size >= len(spans)), None)
        if size is None:
            half = len(spans) // 2
            return torch.cat([self.run(spans[:half]), self.run(spans[half:])])
        if size not in self._passes:
            self._passes[size] = self._make(size=size)
        return self._passes[size].run(spans)


def gpu_attention() -> Attend:
    """Import the kernel, and with it Triton. Raises `ConfigError` where that is missing."""
    try:
        found: Attend = importlib.import_module("inference.engine.paged_attention").attend
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the module {error.name} is missing, which attends on the GPU",
            hint="Install the build of torch for this GPU, which brings it, or set device to cpu.",
        ) from error
    return found
