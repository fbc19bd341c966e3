"""A training run: a context around any training loop that notes what the record needs.

::

    with TrainingRun("reviews", datasets=[dataset.id], base=[base.id], seed=7) as run:
        run.hyperparameter("learning_rate", 5e-5)
        ...                                       # any loop, any framework
        model.save_pretrained(folder)
        run.metric("accuracy", "0.78")
        run.output(folder)
    register_run(run.manifest, blocks=blocks, registry=registry, signer=signer)
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import TracebackType
from typing import Final

from registry.errors import ManifestError, WeightproofError
from registry.hashing.dataset import hash_folder
from registry.ipfs.cid import Cid
from registry.manifest import RunManifest
from registry.manifest_rules import check_metrics, check_name, check_parents, check_texts
from registry.training.environment import capture

# What people measure has fewer digits; more would be noise in a record that stays for ever.
_METRIC_DIGITS: Final = 12
# What a manifest holds behind the point; smaller numbers are nothing.
_METRIC_PLACES: Final = 30


class RunUnfinishedError(WeightproofError):
    """The run has not ended well, so there is nothing to register."""

    exit_code = 1


class TrainingRun:
    """One training, as a context manager. `datasets` and `base` are 32-byte record ids.

    A `seed` seeds Python's random numbers, and numpy's and torch's where they are imported, when
    the run begins. A run that ends in an exception has no manifest.
    """

    def __init__(
        self,
        name: str,
        *,
        datasets: Sequence[bytes] = (),
        base: Sequence[bytes] = (),
        hyperparameters: Mapping[str, object] | None = None,
        seed: int | None = None,
        code_folder: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_name(name, "name")
        check_parents((*datasets, *base))
        self.name: Final = name
        self.seed: Final = seed
        self._datasets: Final = tuple(datasets)
        self._base: Final = tuple(base)
        self._code_folder: Final = code_folder
        self._clock: Final = clock
        self._hyperparameters: Final[dict[str, str]] = {}
        self._metrics: Final[dict[str, str]] = {}
        self._output: Cid | None = None
        self._started_at: int | None = None
        self._manifest: RunManifest | None = None
        for key, value in (hyperparameters or {}).items():
            self.hyperparameter(key, value)

    def __enter__(self) -> TrainingRun:
        """Begin: seed and start the clock."""
        if self._started_at is not None:
            raise RunUnfinishedError(
                f"run {self.name} was begun already",
                hint="make a new TrainingRun for each training",
            )
        if self.seed is not None:
            _seed(self.seed)
        self._started_at = int(self._clock())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End: capture the environment and close the manifest, unless the training failed."""
        if error is not None:
            return
        if self._output is None:
            raise RunUnfinishedError(
                f"run {self.name} has no output", hint="call run.output(folder) with what it made"
            )
        started_at = self._started_at or 0
        self._manifest = RunManifest(
            name=self.name,
            datasets=self._datasets,
            base=self._base,
            # Captured at the end: by now the training has imported what it uses.
            environment=capture(seed=self.seed, code_folder=self._code_folder),
            hyperparameters=self._hyperparameters,
            metrics=self._metrics,
            output_root=self._output,
            started_at=started_at,
            # A clock that was set back during the training must not make the run unrecordable.
            ended_at=max(started_at, int(self._clock())),
        )

    def hyperparameter(self, name: str, value: object) -> None:
        """Note a setting of the training, as text."""
        text = str(value)
        check_texts({name: text}, "hyperparameters")
        self._hyperparameters[name] = text

    def metric(self, name: str, value: str | int | float | Decimal) -> None:
        """Note a measured result; the last value of a name counts.

        A text is kept digit for digit and must be a plain decimal; numbers are written with at
        most 12 significant digits. Raises `ManifestError` for what is no finite number.
        """
        text = value if isinstance(value, str) else _decimal(name, value)
        check_metrics({name: text})
        self._metrics[name] = text

    def output(self, folder: Path | str) -> Cid:
        """Name the folder that the run made; returns its CID."""
        self._output = hash_folder(Path(folder)).root
        return self._output

    @property
    def manifest(self) -> RunManifest:
        """What to register. Raises `RunUnfinishedError` before the run ended well."""
        if self._manifest is None:
            raise RunUnfinishedError(
                f"run {self.name} did not end well, so it cannot be registered",
                hint="read the manifest after the with-block",
            )
        return self._manifest


def _decimal(name: str, value: int | float | Decimal) -> str:
    try:
        number = Decimal(str(value))
        rounded = Decimal(f"{number:.{_METRIC_DIGITS}g}")
    except (InvalidOperation, ValueError) as error:
        raise ManifestError(f"metric {name} is not a number: {value!r:.60}") from error
    if not rounded.is_finite():
        raise ManifestError(f"metric {name} is not finite: {value!r:.60}")
    text = f"{rounded:.{_METRIC_PLACES}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _seed(seed: int) -> None:
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
