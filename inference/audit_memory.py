"""Where an auditor keeps what it remembers: one file a log, sealed with a key beside none of them.

The key lies in the user's own state folder. A state may lie elsewhere, on a disk that others share.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from inference.audit.anchor import AnchorEvent
from inference.audit.audit_state import MAX_BYTES, AuditState, StateError, parse_state
from inference.audit.tally import Tally
from inference.audit.target import AuditTarget
from inference.whole_file import write_whole

_KEY_BYTES: Final = 32


@dataclass
class AuditMemory:
    """Remembers one log. `path` None is a file of its own in `folder`, by whose log it is."""

    folder: Path
    path: Path | None = None
    _noted: AuditState | None = field(default=None, init=False)

    def recall(self, target: AuditTarget) -> AuditState | None:
        """Return what was good when it was audited last; None the first time.

        Raises `StateError` where that was changed, or is of another log.
        """
        path = self._path(target)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise StateError(f"{path.name} is larger than any state")
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        state = parse_state(data)
        state.check(target, self._key())
        return state

    def note(
        self,
        target: AuditTarget,
        checkpoint: str,
        anchored: Sequence[AnchorEvent],
        tally: Tally,
    ) -> None:
        """Write down sums as they stand now; `keep` decides whether they are kept."""
        self._noted = AuditState.of(target, checkpoint, anchored, tally, self._key())

    def keep(self, target: AuditTarget) -> None:
        """Keep what was noted, in the place of what was kept before."""
        if self._noted is not None:
            write_whole(self._path(target), self._noted.encode(), mode=0o600)

    def _path(self, target: AuditTarget) -> Path:
        if self.path is not None:
            return self.path
        named = f"{target.node} {target.origin} {target.chain_id} {target.anchor}"
        return self.folder / f"audit-{sha256(named.encode()).hexdigest()[:24]}.json"

    def _key(self) -> bytes:
        path = self.folder / "audit.key"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(_KEY_BYTES))
        except FileExistsError:
            pass
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            raise StateError(f"{path.name} is no key of {_KEY_BYTES} bytes")
        return key
