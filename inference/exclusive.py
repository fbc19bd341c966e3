"""What one process at a time may do with a node's key: take a nonce, or settle.

`weightproof settle` runs beside a serving node, on the same database; the lock lies beside it.
"""

from __future__ import annotations

import fcntl
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SQLITE: Final = "sqlite:///"
# A file's lock is its process's: threads of one process stand in this line first.
_threads: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)


class Exclusive:
    """Named locks of everybody who has the same database open."""

    def __init__(self, database_url: str) -> None:
        self._url: Final = database_url

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Wait for the lock `name` and hold it; the system frees it when the process ends."""
        place = f"{self._url}.{name}"
        with _threads[place]:
            if not self._url.startswith(_SQLITE):
                yield
                return
            with Path(f"{place.removeprefix(_SQLITE)}.lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
