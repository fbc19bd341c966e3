"""What a witness of heads remembers, as files: for each log the last note it cosigned.

A file is the note itself, named by the SHA-256 of its origin, and replaced in one step. It is held
by a lock that the system frees when its process ends. Where a log forked, the note that proves it
lies beside it. Never bring an older copy of this folder back: heads would be cosigned twice.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inference.audit.checkpoint import Checkpoint, CheckpointError, parse
from inference.errors import NodeError
from inference.whole_file import write_whole


class HeadsDamagedError(NodeError):
    """What was remembered cannot be read: nothing is cosigned before a person has looked."""


@dataclass(frozen=True)
class SeenFile:
    """The last head of one log, while its lock is held."""

    path: Path
    checkpoint: Checkpoint | None

    def keep(self, note: str) -> None:
        """Put a later head in its place."""
        write_whole(self.path, note.encode())

    def accuse(self, note: str) -> None:
        """Keep the first note that contradicts the head; both together prove a fork."""
        against = self.path.with_suffix(".fork")
        if not against.exists():
            write_whole(against, self.path.read_bytes() + b"\n" + note.encode())


@dataclass(frozen=True)
class SeenHeads:
    """A folder of such files; several processes may share it."""

    folder: Path

    @contextmanager
    def opened(self, origin: str) -> Iterator[SeenFile]:
        """Hold the head of one log. Raises `HeadsDamagedError`, `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.note"
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield SeenFile(path, _read(path, origin))


def _read(path: Path, origin: str) -> Checkpoint | None:
    try:
        head, _ = parse(path.read_bytes().decode())
    except FileNotFoundError:
        return None
    except (CheckpointError, UnicodeDecodeError) as error:
        raise HeadsDamagedError(f"what was last cosigned of {origin} cannot be read") from error
    if head.origin != origin:
        raise HeadsDamagedError(f"{path.name} holds a head of {head.origin}, not of {origin}")
    return head
