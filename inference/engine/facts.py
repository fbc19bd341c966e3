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

    `input_tokens` are of prompts; `cached_tokens` those among them that were computed before.
    `batch_tokens` is how many tokens all `steps` computed together.
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


def facts_of(*, dtype: str, device: str, threads: int, engine: str = "weightproof") -> EngineFacts:
    """Return the facts of this build for a model that was loaded so."""
    build = (
        f"{version('weightproof')} torch/{torch.__version__} transformers/{version('transformers')}"
    )
    return EngineFacts(engine, build, dtype, device, threads)
