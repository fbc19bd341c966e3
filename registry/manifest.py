"""Manifests: what a dataset, a training run or a model is made of, down to files and tensors.

A manifest is canonical JSON of a known format in one raw IPFS block. The chain records its digest,
so its CID follows from the record. A value of these classes is a valid manifest from birth, and
`parse_manifest` accepts exactly the bytes that `encode` writes. Old formats stay readable for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, TypeAlias

from registry.errors import ManifestError
from registry.fields import Fields, show_digest
from registry.hashing.dataset import HashedFile
from registry.ipfs.cid import Cid
from registry.manifest_block import Block
from registry.manifest_model import FORMAT_1, FORMAT_2, TASKS, ModelManifest
from registry.manifest_parts import (
    Environment,
    Parent,
    Serving,
    TensorEntry,
    files_to_json,
    read_files,
)
from registry.manifest_rules import (
    check_files,
    check_license,
    check_metrics,
    check_name,
    check_parents,
    check_texts,
    frozen,
    require,
)
from registry.record import Kind
from registry.signing.canonical import JsonObject, decode_object

__all__ = [
    "TASKS",
    "DatasetManifest",
    "Environment",
    "HashedFile",
    "Manifest",
    "ModelManifest",
    "Parent",
    "RunManifest",
    "Serving",
    "TensorEntry",
    "parse_manifest",
]


@dataclass(frozen=True)
class DatasetManifest(Block):
    """A dataset: a folder of files. `root` is the folder's CID."""

    format: ClassVar[str] = "weightproof/dataset@1"
    kind: ClassVar[Kind] = Kind.DATASET

    name: str
    root: Cid
    files: tuple[HashedFile, ...]
    license: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_license(self.license)
        check_files(self.files, self.root)

    @property
    def parent_ids(self) -> tuple[bytes, ...]:
        """A dataset's manifest names no parents."""
        return ()

    @classmethod
    def read(cls, fields: Fields) -> DatasetManifest:
        """Read one from JSON."""
        return cls(
            name=fields.text("name"),
            root=fields.cid("root"),
            files=read_files(fields),
            license=fields.optional_text("license"),
        )

    def to_json(self) -> JsonObject:
        """Return the manifest as a JSON object."""
        return {
            "format": self.format,
            "name": self.name,
            "root": str(self.root),
            "files": files_to_json(self.files),
            **({"license": self.license} if self.license else {}),
        }


@dataclass(frozen=True)
class RunManifest(Block):
    """One training: what went in, where it ran, what came out. Times are Unix seconds.

    `datasets` and `base` are record ids; `output_root` is the CID of the folder it made; metrics
    are decimals as text.
    """

    format: ClassVar[str] = "weightproof/run@1"
    kind: ClassVar[Kind] = Kind.RUN

    name: str
    datasets: tuple[bytes, ...]
    base: tuple[bytes, ...]
    environment: Environment
    hyperparameters: Mapping[str, str]
    metrics: Mapping[str, str]
    output_root: Cid
    started_at: int
    ended_at: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "hyperparameters", frozen(self.hyperparameters))
        object.__setattr__(self, "metrics", frozen(self.metrics))
        check_name(self.name, "name")
        check_texts(self.hyperparameters, "hyperparameters")
        check_metrics(self.metrics)
        check_parents(self.parent_ids)
        require(0 <= self.started_at <= self.ended_at, "the run ended before it started")

    @property
    def parent_ids(self) -> tuple[bytes, ...]:
        """Its datasets, then its base models."""
        return self.datasets + self.base

    @classmethod
    def read(cls, fields: Fields) -> RunManifest:
        """Read one from JSON."""
        return cls(
            name=fields.text("name"),
            datasets=fields.digests("datasets"),
            base=fields.digests("base"),
            environment=Environment.read(fields.below("environment")),
            hyperparameters=fields.texts("hyperparameters"),
            metrics=fields.texts("metrics"),
            output_root=fields.cid("output_root"),
            started_at=fields.integer("started_at"),
            ended_at=fields.integer("ended_at"),
        )

    def to_json(self) -> JsonObject:
        """Return the manifest as a JSON object."""
        return {
            "format": self.format,
            "name": self.name,
            "datasets": [show_digest(id) for id in self.datasets],
            "base": [show_digest(id) for id in self.base],
            "environment": self.environment.to_json(),
            "hyperparameters": dict(self.hyperparameters),
            "metrics": dict(self.metrics),
            "output_root": str(self.output_root),
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }


Manifest: TypeAlias = DatasetManifest | RunManifest | ModelManifest

_READERS: Final[Mapping[str, Callable[[Fields], Manifest]]] = {
    DatasetManifest.format: DatasetManifest.read,
    RunManifest.format: RunManifest.read,
    FORMAT_1: partial(ModelManifest.read, version=1),
    FORMAT_2: partial(ModelManifest.read, version=2),
}


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest in a block's bytes.

    Raises `CanonicalError` when they are not canonical JSON of at most 1 MiB, and `ManifestError`
    for an unknown format, a field that is missing, unknown or wrong, or a rule that is broken.
    """
    fields = Fields(decode_object(data), "manifest")
    format = fields.text("format")
    reader = _READERS.get(format)
    if reader is None:
        raise ManifestError(
            f"{format!r:.60} is no manifest format this version knows",
            hint="a newer version of weightproof may read it",
        )
    found = reader(fields)
    fields.end()
    return found
