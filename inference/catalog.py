"""What a node sells: models by name, each with its engine, its price and its proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from inference.engine.classifier import Classifier
from inference.engine.engine import TextEngine
from inference.errors import ModelStoppedError, ModelUnknownError
from inference.loader import LoadedModel
from inference.payments.pricing import Price
from registry.chain.block import Block
from registry.verify import VerifiedModel


@dataclass(frozen=True)
class CatalogEntry:
    """One model on sale. `engine` computes with the very tensors `loaded` holds."""

    name: str
    verified: VerifiedModel
    loaded: LoadedModel
    engine: TextEngine | Classifier
    price: Price

    @property
    def model_id(self) -> str:
        """Return the ModelId as 0x text."""
        return "0x" + self.verified.model_id.hex()

    @property
    def task(self) -> str:
        """Return `chat` or `classify`, from the manifest."""
        return self.verified.manifest.task


class Catalog:
    """Models by name or ModelId; stopping one is final until the node starts anew."""

    def __init__(self) -> None:
        self._entries: dict[str, CatalogEntry] = {}
        self._stopped: dict[str, str] = {}
        self._blocks: dict[str, Block] = {}
        self._lock = Lock()

    def add(self, entry: CatalogEntry) -> None:
        """Put a model on sale under its name."""
        with self._lock:
            self._entries[entry.name] = entry

    def get(self, name: str, *, task: str | None = None) -> CatalogEntry:
        """Return the model on sale under a name or ModelId.

        Raises `ModelUnknownError`, or `ModelStoppedError` with the reason it was stopped.
        """
        entry = self._entries.get(name) or next(
            (e for e in self._entries.values() if e.model_id == name.lower()), None
        )
        if entry is None or (task is not None and entry.task != task):
            known = ", ".join(sorted(e.name for e in self if task in (None, e.task))) or "none"
            raise ModelUnknownError(f"no model {name!r:.80} here", hint=f"served here: {known}")
        if reason := self._stopped.get(entry.name):
            raise ModelStoppedError(f"model {entry.name} is not sold any more: {reason}")
        return entry

    def stop(self, name: str, reason: str) -> bool:
        """Stop selling a model; False when it was stopped already."""
        with self._lock:
            fresh = name not in self._stopped
            self._stopped.setdefault(name, reason)
        return fresh

    def set_block(self, name: str, block: Block) -> None:
        """Note the block at which a model was last found to stand."""
        with self._lock:
            self._blocks[name] = block

    def block(self, entry: CatalogEntry) -> Block:
        """Return the newest block at which a model was found to stand."""
        return self._blocks.get(entry.name, entry.verified.block)

    def stopped(self, name: str) -> str:
        """Return why a model was stopped, or an empty string."""
        return self._stopped.get(name, "")

    def __iter__(self) -> Iterator[CatalogEntry]:
        return iter(tuple(self._entries.values()))
