"""Evidence in files: read, written, and made of what people hold: two notes, or two receipts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from inference.audit.accusation import Accused, head_of
from inference.audit.checkpoint import checkpoint_domain, parse, verify
from inference.audit.document import FormatError
from inference.audit.evidence import MAX_BYTES, Evidence, EvidenceError, parse_evidence
from inference.held import read_bounded, read_receipt
from inference.receipts import SignedReceipt
from registry.errors import ConfigError

# Two notes, as a witness keeps a fork, or a receipt spaced as anybody likes.
_MAX_FILE: Final = 128 * 1024


def read_evidence(path: Path) -> Evidence:
    """Read one document. Raises `FormatError` for anything but canonical evidence."""
    return parse_evidence(read_bounded(path, MAX_BYTES))


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Write a document. Raises `ConfigError` rather than write over a file."""
    try:
        with path.open("xb") as file:
            file.write(evidence.encode())
    except FileExistsError:
        raise ConfigError(f"{path} exists", hint="evidence is never written over") from None


def make_evidence(paths: Sequence[Path], *, chain: int, anchor: str, node: str) -> Evidence:
    """Return what two statements of a node show, checked: two notes, or two receipts.

    A file may hold both notes, as a witness keeps a fork. Raises `EvidenceError` where they show
    nothing, `FormatError` or `CheckpointError` for what is neither.
    """
    receipts: list[SignedReceipt] = []
    notes: list[str] = []
    for path in paths:
        data = read_bounded(path, _MAX_FILE)
        if data.lstrip().startswith(b"{"):
            receipts.append(read_receipt(path))
        else:
            notes += _notes(data, path.name)
    if len(receipts) == 2 and not notes:
        # No head takes part, so the log's name does not.
        evidence: Evidence | None = Accused(chain, anchor, node, "").twins(*receipts)
    elif len(notes) == 2 and not receipts:
        evidence = _of_notes(notes, chain, anchor, node)
    else:
        raise EvidenceError(
            f"{len(notes)} notes and {len(receipts)} receipts are no evidence",
            hint="give two checkpoints' notes, or two receipts",
        )
    if evidence is None:
        raise EvidenceError("both notes say the same, or one is of an empty log: no lie is shown")
    evidence.check()
    return evidence


def _of_notes(notes: Sequence[str], chain: int, anchor: str, node: str) -> Evidence | None:
    domain, origin = checkpoint_domain(chain, anchor), parse(notes[0])[0].origin
    heads = [head_of(verify(note, node, domain, origin=origin)) for note in notes]
    return Accused(chain, anchor, node, origin).heads(*heads)


def _notes(data: bytes, name: str) -> Iterator[str]:
    """Split a file into its notes: each is its text, an empty line, its signatures."""
    try:
        parts = data.decode().removesuffix("\n").split("\n\n")
    except UnicodeDecodeError as error:
        raise FormatError(name, "neither a note nor a receipt: not UTF-8") from error
    if len(parts) % 2:
        raise FormatError(name, "neither notes nor a receipt")
    for text, signatures in zip(parts[::2], parts[1::2], strict=True):
        yield f"{text}\n\n{signatures}\n"
