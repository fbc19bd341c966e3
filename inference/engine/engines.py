"""Which engine computes a loaded model's answers."""

from __future__ import annotations

from typing import TypeAlias

from inference.engine.classifier import Classifier
from inference.engine.continuous_engine import ContinuousEngine
from inference.engine.embedder import Embedder
from inference.engine.engine import TextEngine
from inference.engine.generator import Generator
from inference.engine.image_classifier import ImageClassifier
from inference.loader import LoadedModel
from registry.errors import ConfigError

Engine: TypeAlias = Generator | Embedder | ImageClassifier | Classifier


def open_engine(loaded: LoadedModel, *, kind: str, queue_limit: int) -> Engine:
    """Return what computes a model, by its task; of those that make text, the one of `kind`.

    `queue_limit` calls may wait. Raises `LoadRefusedError` for a model it cannot serve,
    `ConfigError` for an unknown kind.
    """
    if loaded.task == "chat":
        return open_generator(kind, loaded, queue_limit=queue_limit)
    if loaded.task == "embed":
        return Embedder(loaded, queue_limit=queue_limit)
    if loaded.recipe is not None:
        return ImageClassifier(loaded, queue_limit=queue_limit)
    return Classifier(loaded, queue_limit=queue_limit)


def open_generator(kind: str, loaded: LoadedModel, *, queue_limit: int) -> Generator:
    """Return the engine that a node's settings name for text. Raises like `open_engine`."""
    if kind == "weightproof":
        return TextEngine(loaded, queue_limit=queue_limit)
    if kind == "transformers":
        return ContinuousEngine(loaded, queue_limit=queue_limit)
    raise ConfigError(f"there is no engine {kind!r:.40}")
