"""The stock: models come on sale and go off sale while the node serves.

1. what the model will take is read from its manifest: too much is refused before a file is read
2. verify
3. weights and cache are known now: make room for them, or refuse before anything is allocated
4. load, and prove the tensors where they lie
5. put it on sale; what had its name before leaves, and is freed after its last call

One load at a time. A load that fails leaves everything as it was: what gave way to it is loaded
again. Every method here may take long: call it from a thread of its own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, TypeAlias

from inference.catalog import Catalog, CatalogEntry
from inference.config import ModelConfig
from inference.engine.device import capacity, choose_device, give_back, release
from inference.engine.engines import Engine, open_engine
from inference.engine.footprint import footprint, tensors_bytes
from inference.errors import NodeError, UnavailableError
from inference.loader import load
from inference.memory_budget import Holding, giving_way
from inference.office import Office
from registry.errors import ConfigError, WeightproofError
from registry.manifest import ModelManifest
from registry.verify import VerifiedModel, fetch_manifest

# Told what is being done and how many bytes that is; returns what to call with bytes done.
Progress: TypeAlias = Callable[[str, int], Callable[[int], None]]


class LoadUnderWayError(NodeError):
    """Another model is being loaded: they come one at a time."""

    status = 409
    code = "load_under_way"
    exit_code = 4


@dataclass
class LoadUnderWay:
    """A load as an operator watches it; bytes of the present step, times in unix seconds."""

    name: str
    model_id: str
    step: str = "begin"
    done: int = 0
    total: int = 0
    since: float = field(default_factory=time.time)


@dataclass(frozen=True)
class LoadFailure:
    """The load that failed last, and why."""

    name: str
    model_id: str
    message: str
    at: float


@dataclass(frozen=True)
class Placed:
    """What a load did. `replaced` is the ModelId that had the name, `unloaded` what gave way."""

    name: str
    model_id: str
    device: str
    memory: int
    replaced: str
    unloaded: tuple[str, ...]
    seconds: float


class Stock:
    """Loads and unloads the models of a node's catalog; `engines` is as `open_engine`."""

    def __init__(self, office: Office, engines: Callable[..., Engine] = open_engine) -> None:
        self._engines: Final = engines
        self._config: Final = office.config
        self._tariff: Final = office.tariff
        self._workspace: Final = office.workspace
        self._device: Final = choose_device(office.config.device)
        self.catalog: Final = Catalog(on_free=self._free)
        self.budget: Final = office.config.memory_budget_bytes or capacity(self._device)
        self.under_way: LoadUnderWay | None = None
        self.failure: LoadFailure | None = None
        self._one_load: Final = Lock()
        # Guards the moment a model comes on sale against the node's end.
        self._gate: Final = Lock()
        self._closing = False
        self._freer: Final = ThreadPoolExecutor(1, thread_name_prefix="freeing")
        self._freed: Future[None] | None = None

    def load(self, model: ModelConfig, progress: Progress | None = None) -> Placed:
        """Put a model on sale; under a name that is taken it replaces what is there.

        Raises what `verify_model` and `load` raise, `MemoryExceededError`, `LoadUnderWayError`,
        `ConfigError` for a name that reads as a ModelId.
        """
        if model.name.lower().startswith("0x"):
            # Whoever asks by ModelId must never be answered by a model that is only called so.
            raise ConfigError("a model's name cannot begin with 0x: a ModelId does")
        if not self._one_load.acquire(blocking=False):
            now = self.under_way.name if self.under_way else "another model"
            raise LoadUnderWayError(f"{now} is being loaded", hint="try again when that is done")
        try:
            self.under_way = LoadUnderWay(model.name, "0x" + model.model_id.hex())
            return self._load(model, self._watched(self.under_way, progress))
        except WeightproofError as error:
            self.failure = LoadFailure(
                model.name, "0x" + model.model_id.hex(), error.message, time.time()
            )
            raise
        finally:
            self.under_way = None
            self._one_load.release()

    def unload(self, name: str) -> CatalogEntry:
        """Take a model off sale at once; its memory is freed when its last call has ended.

        Raises `ModelUnknownError`.
        """
        return self.catalog.remove(name)

    def used(self) -> int:
        """Return what the models in memory take, in bytes."""
        return sum(entry.memory for entry in self.catalog.held())

    def settle(self) -> None:
        """Wait until everything that nobody uses any more is freed."""
        if self._freed is not None:
            wait([self._freed])

    def close(self) -> None:
        """End every engine and free everything; a load under way ends at its next step."""
        with self._gate:
            self._closing = True
            entries = self.catalog.clear()
        for entry in entries:
            _shut(entry)
        self._freer.shutdown(wait=True)

    def _load(self, model: ModelConfig, progress: Progress) -> Placed:
        began = time.monotonic()
        self._choose(model, self._expected(model))  # 1
        verified = self._verify(model, progress)  # 2
        unloaded: list[ModelConfig] = []
        try:
            needed = footprint(verified, self._device)
            self._make_room(model, needed, unloaded)  # 3
            entry = self._open(model, verified, needed, progress)  # 4
            replaced = self._put(entry)  # 5
        except BaseException as error:
            verified.close()
            _forget(error)
            self._restore(unloaded, progress, error)
            raise
        return Placed(
            name=model.name,
            model_id=entry.model_id,
            device=entry.loaded.device,
            memory=needed,
            replaced=replaced,
            unloaded=tuple(one.name for one in unloaded),
            seconds=round(time.monotonic() - began, 3),
        )

    def _expected(self, model: ModelConfig) -> int:
        """Return the size of a model's weights by its manifest, before any file is read."""
        try:
            record = self._workspace.records.record(model.model_id)
            manifest = fetch_manifest(self._workspace.blocks, record)
        except WeightproofError:
            return 0  # Verifying says what is wrong with it, in its own words.
        return tensors_bytes(manifest.tensors) if isinstance(manifest, ModelManifest) else 0

    def _verify(self, model: ModelConfig, progress: Progress) -> VerifiedModel:
        advance = progress(f"verifying {model.name}", 0)
        return self._workspace.verify(model.model_id, folder=model.folder, progress=advance)

    def _choose(self, model: ModelConfig, needed: int) -> tuple[str, ...]:
        """Return the models that give way to `needed` bytes. Raises `MemoryExceededError`."""
        self.settle()
        held = []
        for entry in self.catalog.held():
            standing = self.catalog.standing(entry)
            # What has the new model's name stays: it is replaced only by what has been proven.
            movable = not standing.leases and not standing.retired and entry.name != model.name
            paid_at = standing.paid_at or standing.loaded_at
            held.append(Holding(entry.name, entry.memory, paid_at, movable))
        return giving_way(
            held,
            name=model.name,
            needed=needed,
            budget=self.budget,
            unload=self._config.unload_when_full,
        )

    def _make_room(self, model: ModelConfig, needed: int, unloaded: list[ModelConfig]) -> None:
        """Unload what gives way; `unloaded` gets what would load it again."""
        # A call may come, or an order of the operator, between choosing and unloading.
        while chosen := self._choose(model, needed):
            named = {entry.name: entry for entry in self.catalog}
            entries = [named[name] for name in chosen if name in named]
            if self.catalog.evict(entries):
                unloaded += [_config_of(entry) for entry in entries]

    def _open(
        self, model: ModelConfig, verified: VerifiedModel, needed: int, progress: Progress
    ) -> CatalogEntry:
        self.settle()
        give_back(self._device)
        loaded = load(
            verified,
            device=self._config.device,
            threads=self._config.threads,
            progress=progress(f"loading {model.name}", tensors_bytes(verified.tensors)),
        )
        # Compiling takes seconds, once on a machine.
        progress(f"starting {model.name}", 0)
        kind, limit = self._config.engine, self._config.max_queue
        engine = self._engines(loaded, kind=kind, queue_limit=limit)
        entry = CatalogEntry(
            model.name,
            verified,
            loaded,
            engine,
            model.price,
            model.folder,
            needed,
            model.exact_price,
        )
        try:
            # Receipts will name it: it must be there for whoever checks them.
            self._tariff.shop.keep(self._tariff.offer(entry))
        except BaseException:
            engine.close()
            raise
        return entry

    def _put(self, entry: CatalogEntry) -> str:
        """Put an entry on sale; return the ModelId that had its name before, or nothing."""
        with self._gate:
            if self._closing:
                entry.engine.close()
                raise UnavailableError("the node is closing")
            replaced = self.catalog.add(entry)
        return replaced.model_id if replaced else ""

    def _restore(
        self, unloaded: list[ModelConfig], progress: Progress, error: BaseException
    ) -> None:
        """Load again what gave way to a model that could not be loaded."""
        for model in unloaded:
            verified = None
            try:
                verified = self._verify(model, progress)
                self._put(self._open(model, verified, footprint(verified, self._device), progress))
            except WeightproofError as second:
                if verified is not None:
                    verified.close()
                if isinstance(error, WeightproofError):
                    lost = f"{model.name}, unloaded for it, could not be loaded again"
                    error.hint = f"{error.hint}; {lost}: {second.message}".removeprefix("; ")

    def _watched(self, under_way: LoadUnderWay, progress: Progress | None) -> Progress:
        """Return a progress that is shown to the operator too, and that ends with the node."""

        def begin(label: str, total: int) -> Callable[[int], None]:
            tell = progress(label, total) if progress else None
            under_way.step, under_way.done, under_way.total = label, 0, total

            def advance(count: int) -> None:
                if self._closing:
                    raise UnavailableError("the node is closing")
                under_way.done += count
                if tell is not None:
                    tell(count)

            return advance

        return begin

    def _free(self, entry: CatalogEntry) -> None:
        # At the node's end everything is shut by `close`, whoever still holds a lease.
        with suppress(RuntimeError):
            self._freer.submit(_shut, entry)
            self._freed = self._freer.submit(give_back, self._device)


def _shut(entry: CatalogEntry) -> None:
    """End an engine and free its memory. The catalog no longer knows the entry."""
    entry.engine.close()
    # A finished call's rests may refer to the model until the next one comes.
    release(entry.loaded.module)
    entry.verified.close()


def _forget(error: BaseException | None) -> None:
    """Let go of the tensors in the frames of a failed load: its error may live for long."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _config_of(entry: CatalogEntry) -> ModelConfig:
    return ModelConfig(
        entry.name, entry.verified.model_id, entry.folder, entry.price, entry.exact_price
    )
