"""How a loaded model's encoder uses the machine: lanes, processors and the size of a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from inference.engine.encoder import Encoder, Forward, Input
from inference.engine.facts import EngineFacts, facts_of
from inference.loader import LoadedModel

# More would wait for Python's lock more than they compute.
_MAX_LANES: Final = 4
# What a lane computes at a time. On a CPU more makes nothing faster and others wait longer (a
# second for a small encoder's 4096); a GPU needs more to be busy.
_CPU_BATCH_TOKENS: Final = 1024
_GPU_BATCH_TOKENS: Final = 16384


@dataclass(frozen=True)
class Lanes:
    """`count` threads compute batches of at most `batch_tokens`, each on `threads` processors.

    Batches side by side use processors better than operations that wait for one another's halves,
    above all where other work takes a processor now and then.
    """

    count: int
    threads: int
    batch_tokens: int

    @classmethod
    def of(cls, loaded: LoadedModel) -> Lanes:
        """Return how a model's inputs are computed on its device."""
        if loaded.torch_device.type != "cpu":
            return cls(1, loaded.threads, _GPU_BATCH_TOKENS)
        count = min(_MAX_LANES, loaded.threads)
        return cls(count, loaded.threads // count, _CPU_BATCH_TOKENS)

    def facts(self, loaded: LoadedModel) -> EngineFacts:
        """Return what computes; its threads are those that one operation may use."""
        return facts_of(dtype=loaded.dtype, device=loaded.device, threads=self.threads)


def open_encoder(
    loaded: LoadedModel,
    forward: Forward[Input],
    *,
    cost: Callable[[Input], int],
    queue_limit: int,
) -> tuple[Encoder[Input], EngineFacts]:
    """Return an encoder over a loaded model's forward, and the facts of what computes."""
    lanes = Lanes.of(loaded)
    encoder = Encoder(
        forward,
        name=f"encoder-{loaded.name}",
        cost=cost,
        batch_tokens=lanes.batch_tokens,
        queue_limit=queue_limit,
        lanes=lanes.count,
        threads=lanes.threads,
        device=torch.device(loaded.torch_device),
    )
    return encoder, lanes.facts(loaded)
