"""One node serves from one database: a second would end the first one's calls as left behind."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Final

from registry.errors import ConfigError

_SQLITE: Final = "sqlite:///"


class ServingLock:
    """Held while a node serves; the system frees it when the process ends, however it ends."""

    def __init__(self, database_url: str) -> None:
        """Take the lock beside an SQLite file. Raises `ConfigError` when another node has it."""
        # Several nodes may share a PostgreSQL database; its rows are locked one by one.
        self._file = None
        if not database_url.startswith(_SQLITE):
            return
        path = Path(database_url.removeprefix(_SQLITE) + ".serving")
        self._file = path.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise ConfigError(
                f"another node serves from {path.stem}",
                hint="stop it first, or give this one a database of its own",
            ) from error

    def close(self) -> None:
        """Let go."""
        if self._file is not None:
            self._file.close()
