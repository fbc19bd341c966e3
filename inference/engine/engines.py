"""Which engine serves a model that generates text."""

from __future__ import annotations

from inference.engine.continuous_engine import ContinuousEngine
from inference.engine.engine import TextEngine
from inference.engine.generator import Generator
from inference.loader import LoadedModel
from registry.errors import ConfigError


def open_engine(kind: str, loaded: LoadedModel, *, queue_limit: int) -> Generator:
    """Return the engine a node's settings name, serving `loaded`; `queue_limit` calls may wait.

    Raises `LoadRefusedError` for a model it cannot serve, `ConfigError` for an unknown kind.
    """
    if kind == "weightproof":
        return TextEngine(loaded, queue_limit=queue_limit)
    if kind == "transformers":
        return ContinuousEngine(loaded, queue_limit=queue_limit)
    raise ConfigError(f"there is no engine {kind!r:.40}")
