"""The parts that manifests are made of: files, tensors, parents, environments, serving limits.

Each part reads itself from JSON and refuses what it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from registry.errors import ManifestError
from registry.fields import Fields, show_digest
from registry.hashing.dataset import HashedFile
from registry.manifest_rules import check_digest, check_dtype, check_texts, frozen, require
from registry.record import Kind
from registry.signing.canonical import JsonObject, JsonValue


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a model: the file it is in, its name, dtype (as in safetensors) and shape.

    `digest` is the 32-byte tensor digest of `registry.hashing.weights`.
    """

    file: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    digest: bytes

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        check_digest(self.digest, f"the digest of tensor {self.name!r:.80}")

    @classmethod
    def read(cls, value: JsonValue, where: str) -> TensorEntry:
        """Read one from JSON."""
        fields = Fields(value, where)
        shape = fields.items("shape")
        found = cls(
            file=fields.text("file"),
            name=fields.text("name"),
            dtype=fields.text("dtype"),
            shape=tuple(_size(item, at) for at, item in shape),
            digest=fields.digest("digest"),
        )
        fields.end()
        return found

    def to_json(self) -> JsonObject:
        """Return it as a JSON object."""
        return {
            "file": self.file,
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "digest": show_digest(self.digest),
        }


@dataclass(frozen=True)
class Parent:
    """What a model came from: the run that made it, or the model it is a copy or a change of."""

    kind: Kind
    id: bytes

    def __post_init__(self) -> None:
        require(self.kind in (Kind.RUN, Kind.MODEL), "a model's parents are runs and models")

    @classmethod
    def read(cls, value: JsonValue, where: str) -> Parent:
        """Read one from JSON."""
        fields = Fields(value, where)
        word = fields.text("kind")
        id = fields.digest("id")
        fields.end()
        for kind in Kind:
            if kind.word == word:
                return cls(kind, id)
        raise ManifestError(f"{where}.kind is {word!r:.40}, which is no kind of record")

    def to_json(self) -> JsonObject:
        """Return it as a JSON object."""
        return {"kind": self.kind.word, "id": show_digest(self.id)}


@dataclass(frozen=True)
class Serving:
    """How a model is meant to be served: its dtype, and its most tokens in all and to answer."""

    dtype: str
    max_context: int
    max_output: int

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        require(self.max_context > 0, "serving.max_context is zero")
        require(
            0 <= self.max_output <= self.max_context, "serving.max_output is beyond max_context"
        )

    @classmethod
    def read(cls, fields: Fields) -> Serving:
        """Read one from JSON."""
        found = cls(
            fields.text("dtype"), fields.integer("max_context"), fields.integer("max_output")
        )
        fields.end()
        return found

    def to_json(self) -> JsonObject:
        """Return it as a JSON object."""
        return {
            "dtype": self.dtype,
            "max_context": self.max_context,
            "max_output": self.max_output,
        }


@dataclass(frozen=True)
class Environment:
    """Where a run took place, as texts. `code` is `git:<commit>`, with `+changes` where dirty.

    `packages` maps distribution names to versions; `seed` and `threads` are numbers or `none`.
    """

    code: str
    python: str
    platform: str
    hardware: str
    threads: str
    seed: str
    packages: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", frozen(self.packages))
        check_texts(self.packages, "environment.packages")
        check_texts(self._texts(), "environment")

    @classmethod
    def read(cls, fields: Fields) -> Environment:
        """Read one from JSON."""
        found = cls(
            code=fields.text("code"),
            python=fields.text("python"),
            platform=fields.text("platform"),
            hardware=fields.text("hardware"),
            threads=fields.text("threads"),
            seed=fields.text("seed"),
            packages=fields.texts("packages"),
        )
        fields.end()
        return found

    def to_json(self) -> JsonObject:
        """Return it as a JSON object."""
        return {**self._texts(), "packages": dict(self.packages)}

    def _texts(self) -> dict[str, str]:
        return {
            "code": self.code,
            "python": self.python,
            "platform": self.platform,
            "hardware": self.hardware,
            "threads": self.threads,
            "seed": self.seed,
        }


def files_to_json(files: Sequence[HashedFile]) -> list[JsonObject]:
    """Return files as a JSON list."""
    return [{"path": file.path, "size": file.size, "cid": str(file.cid)} for file in files]


def read_files(fields: Fields) -> tuple[HashedFile, ...]:
    """Read the list `files` from JSON."""
    found = []
    for where, item in fields.items("files"):
        file = Fields(item, where)
        entry = HashedFile(file.text("path"), file.integer("size"), file.cid("cid"))
        file.end()
        found.append(entry)
    return tuple(found)


def headers_to_json(headers: Mapping[str, bytes]) -> list[JsonObject]:
    """Return header digests as a JSON list, sorted by path."""
    return [{"path": path, "digest": show_digest(headers[path])} for path in sorted(headers)]


def read_headers(fields: Fields) -> Mapping[str, bytes]:
    """Read the list `headers` from JSON: sorted by path, so that a value has one text."""
    found: dict[str, bytes] = {}
    last = ""
    for where, item in fields.items("headers"):
        header = Fields(item, where)
        path, digest = header.text("path"), header.digest("digest")
        header.end()
        require(path > last, f"headers are not sorted by path at {path!r:.80}")
        found[path] = digest
        last = path
    require(bool(found), "headers is empty")
    return found


def _size(value: JsonValue, where: str) -> int:
    if not isinstance(value, int):
        raise ManifestError(f"{where} is not an integer")
    return value
