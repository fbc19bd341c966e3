"""The manifest of a model: its files, tensors and text, what it came from and how it is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from registry.fields import Fields
from registry.hashing.dataset import HashedFile
from registry.hashing.weights import TENSOR_1, TENSOR_2, TensorRule
from registry.ipfs.cid import Cid
from registry.manifest_block import Block
from registry.manifest_parts import (
    Parent,
    Serving,
    TensorEntry,
    files_to_json,
    headers_to_json,
    read_files,
    read_headers,
)
from registry.manifest_rules import (
    check_files,
    check_headers,
    check_license,
    check_metrics,
    check_name,
    check_parents,
    check_tensors,
    frozen,
    require,
)
from registry.record import Kind
from registry.signing.canonical import JsonObject
from registry.text.golden import Golden

TASKS: Final = ("chat", "classify", "embed")
FORMAT_1: Final = "weightproof/model@1"
FORMAT_2: Final = "weightproof/model@2"
TOKENIZER: Final = "tokenizer.json"


@dataclass(frozen=True)
class ModelManifest(Block):
    """A model: its files, every tensor in them, what it came from and how it is served.

    Tensors are sorted by file, then name. `headers` maps each weight file's path to the 32-byte
    SHA-256 of its first bytes, up to where its tensors begin, so that a loader knows the file's
    layout before it reads the weights. `golden` are the vectors of a model with a tokenizer.
    Version 1 of the format has neither.
    """

    kind: ClassVar[Kind] = Kind.MODEL

    name: str
    task: str
    architecture: str
    root: Cid
    files: tuple[HashedFile, ...]
    tensors: tuple[TensorEntry, ...]
    parents: tuple[Parent, ...]
    metrics: Mapping[str, str]
    serving: Serving
    license: str | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
    golden: Golden | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", frozen(self.metrics))
        object.__setattr__(self, "headers", frozen(self.headers))
        check_name(self.name, "name")
        check_name(self.architecture, "architecture")
        check_license(self.license)
        require(self.task in TASKS, f"task {self.task!r:.40} is none of {', '.join(TASKS)}")
        check_files(self.files, self.root)
        check_tensors([(t.file, t.name, t.dtype, t.shape) for t in self.tensors], self.files)
        check_metrics(self.metrics)
        check_parents(self.parent_ids)
        if self.headers or self.golden:
            check_headers(self.headers, self.files)
            self._check_golden()

    @property
    def format(self) -> str:
        """Which version of the format it is written in."""
        return FORMAT_2 if self.headers else FORMAT_1

    @property
    def tensor_rule(self) -> TensorRule:
        """How its tensors' digests are computed."""
        return TENSOR_2 if self.headers else TENSOR_1

    @property
    def parent_ids(self) -> tuple[bytes, ...]:
        """The ids of the runs and models it came from."""
        return tuple(parent.id for parent in self.parents)

    @classmethod
    def read(cls, fields: Fields, *, version: int) -> ModelManifest:
        """Read one of format version 1 or 2 from JSON."""
        return cls(
            name=fields.text("name"),
            task=fields.text("task"),
            architecture=fields.text("architecture"),
            root=fields.cid("root"),
            files=read_files(fields),
            tensors=tuple(TensorEntry.read(item, at) for at, item in fields.items("tensors")),
            parents=tuple(Parent.read(item, at) for at, item in fields.items("parents")),
            metrics=fields.texts("metrics"),
            serving=Serving.read(fields.below("serving")),
            license=fields.optional_text("license"),
            headers=read_headers(fields) if version > 1 else {},
            golden=_read_golden(fields) if version > 1 else None,
        )

    def to_json(self) -> JsonObject:
        """Return the manifest as a JSON object."""
        return {
            "format": self.format,
            "name": self.name,
            "task": self.task,
            "architecture": self.architecture,
            "root": str(self.root),
            "files": files_to_json(self.files),
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "parents": [parent.to_json() for parent in self.parents],
            "metrics": dict(self.metrics),
            "serving": self.serving.to_json(),
            **({"license": self.license} if self.license else {}),
            **({"headers": headers_to_json(self.headers)} if self.headers else {}),
            **({"golden": self.golden.to_json()} if self.golden else {}),
        }

    def _check_golden(self) -> None:
        """Demand vectors where there is a tokenizer, so that none is loaded unproven."""
        has_tokenizer = any(file.path == TOKENIZER for file in self.files)
        require(
            has_tokenizer == (self.golden is not None),
            f"{TOKENIZER} has no golden vectors"
            if has_tokenizer
            else f"golden, but no {TOKENIZER}",
        )
        if self.golden is not None and self.task == "chat":
            require(bool(self.golden.chats), "golden.chats is empty: a chat model has a template")


def _read_golden(fields: Fields) -> Golden | None:
    found = fields.optional_below("golden")
    return None if found is None else Golden.read(found)
