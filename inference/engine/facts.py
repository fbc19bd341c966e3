"""What computes: stated in /v1/models and in every receipt, so that a replay can match it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch


@dataclass(frozen=True)
class EngineFacts:
    """Engine, its version with those of torch and transformers, dtype, device, threads."""

    engine: str
    version: str
    dtype: str
    device: str
    threads: int

    def to_json(self) -> dict[str, str | int]:
        """Return the facts as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class EngineStats:
    """What an engine does now and did so far. Cache in bytes.

    `cached_tokens` are the `input_tokens` that were taken from the prefix cache; `batch_tokens` is
    what all `steps` computed together, so that batch_tokens / steps is the mean batch. What an
    engine does not count is 0.
    """

    waiting: int
    running: int
    finished: int
    output_tokens: int
    cache_bytes: int
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    steps: int = 0
    batch_tokens: int = 0
    cache_capacity: int = 0


def facts_of(*, dtype: str, device: str, threads: int) -> EngineFacts:
    """Return the facts of this build for a model that was loaded so."""
    build = (
        f"{version('weightproof')} torch/{torch.__version__} transformers/{version('transformers')}"
    )
    return EngineFacts("weightproof", build, dtype, device, threads)
