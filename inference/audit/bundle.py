"""A bundle: all that an audit was told, in one file; anybody repeats it without node or chain.

The file is lines of canonical JSON: a head, the entries of the log as they were shown, and a tail
with every other answer, by the question it answers. The tail's digest is of all lines before it, so
a cut or joined file is refused; that it is *true* nobody can see from it. What the node signed is
checked as ever; what the chain says is as good as whoever saved the bundle, unless it is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, TypeVar

from inference.audit.document import (
    Address,
    AddressKind,
    Count,
    Digest,
    Document,
    FormatError,
    OptionalKind,
    Text,
)
from inference.audit.entry import MAX_BYTES as MAX_ENTRY_BYTES
from inference.audit.field_kinds import ManyKind
from inference.audit.target import AuditTarget
from inference.errors import NodeError
from registry.errors import CanonicalError
from registry.signing.canonical import JsonValue, decode_object

DocumentT = TypeVar("DocumentT", bound=Document)

# A head is some 500 bytes; the answers grow with channels, models and anchors.
_MAX_HEAD_BYTES: Final = 16 * 1024
MAX_ANSWERS_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 1 << 20
_QUESTION: Final = re.compile(r"[a-z]+( [!-~]{1,200}){0,5}", re.ASCII)


class BundleError(NodeError):
    """A bundle that is malformed, cut off, or does not answer what it is asked."""

    exit_code = 3


class AnswersKind:
    """Answers by question: an object in JSON, whose values their readers check."""

    def dump(self, value: object, path: str) -> JsonValue:
        """Return the object."""
        if not isinstance(value, Mapping):
            raise FormatError(path, "not an object")
        for question in value:
            if not isinstance(question, str) or not _QUESTION.fullmatch(question):
                raise FormatError(path, f"{question!r:.80} is not a question")
        return dict(value)

    def load(self, value: object, path: str) -> object:
        """Return the object."""
        return self.dump(value, path)


@dataclass(frozen=True)
class BundleHead(Document):
    """Which log it is of, where it is anchored, and when it was saved, in unix seconds.

    `min_attestations` by `attesters`, anybody's without them, were demanded of each model.
    """

    FORMAT: ClassVar[str] = "weightproof/audit-bundle@1"

    node: Address
    origin: Text
    chain: Count
    anchor: Address
    registry: Address
    saved_at: Count
    min_attestations: Count
    attesters: Annotated[tuple[str, ...] | None, OptionalKind(ManyKind(AddressKind(), 10_000))] = (
        None
    )

    @property
    def target(self) -> AuditTarget:
        """Return which log it is of."""
        return AuditTarget(self.node, self.origin, self.chain, self.anchor, self.registry)


@dataclass(frozen=True)
class BundleTail(Document):
    """How many entries there are, every other answer, and the digest of all lines before."""

    FORMAT: ClassVar[str] = "weightproof/audit-bundle-answers@1"

    entries: Count
    answers: Annotated[dict[str, Any], AnswersKind()]
    digest: Digest


@dataclass(frozen=True)
class Bundle:
    """An open bundle. `start` is where its entries begin in the file, `stop` where they end."""

    path: Path
    head: BundleHead
    tail: BundleTail
    start: int
    stop: int

    def entries(self) -> Iterator[bytes]:
        """Yield every entry's bytes."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            for _ in range(self.tail.entries):
                yield file.readline(MAX_ENTRY_BYTES + 2).removesuffix(b"\n")


def open_bundle(path: Path) -> Bundle:
    """Read a bundle's head and tail, and its length. Raises `BundleError` with the reason."""
    with path.open("rb") as file:
        first = file.readline(_MAX_HEAD_BYTES + 1)
        head = _document(BundleHead, first, _MAX_HEAD_BYTES, "head")
        stop = _last_line(path)
        if stop < len(first):
            raise BundleError("the bundle has no answers: it was cut off")
        file.seek(stop)
        last = file.read(MAX_ANSWERS_BYTES + 2)
        tail = _document(BundleTail, last, MAX_ANSWERS_BYTES, "answers")
        file.seek(0)
        digest, lines, left = sha256(), 0, stop
        while left and (piece := file.read(min(left, _CHUNK_BYTES))):
            digest.update(piece)
            lines += piece.count(b"\n")
            left -= len(piece)
    if digest.digest() != tail.digest:
        raise BundleError("the bundle was changed: its digest is of other lines")
    if lines != tail.entries + 1:
        raise BundleError(f"the bundle has {lines - 1} entries, and says {tail.entries}")
    return Bundle(path, head, tail, len(first), stop)


def _last_line(path: Path) -> int:
    """Return where the last line begins; 0 where there is only one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        at = size - 1
        while at > 0:
            begin = max(0, at - _CHUNK_BYTES)
            if size - begin > MAX_ANSWERS_BYTES + _CHUNK_BYTES:
                raise BundleError(f"the bundle's last line has more than {MAX_ANSWERS_BYTES} bytes")
            file.seek(begin)
            found = file.read(at - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            at = begin
    return 0


def _document(kind: type[DocumentT], line: bytes, limit: int, what: str) -> DocumentT:
    if not line.endswith(b"\n"):
        raise BundleError(f"the bundle's {what}: no line of at most {limit} bytes")
    try:
        return kind.from_json(decode_object(line[:-1], max_bytes=limit))
    except (CanonicalError, FormatError) as error:
        raise BundleError(f"the bundle's {what}: {error.message}") from error
