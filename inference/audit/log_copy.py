"""The auditor's copy of a log: every entry as it was shown, in a file that dies with the audit.

Memory holds eight bytes an entry; evidence and replays are read from the file again.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

from inference.audit.entry import RECEIPT, Entry, parse_entry
from inference.audit.examination import open_receipt, read_bare
from inference.audit.reader import BadAnswerError, LogReader
from inference.errors import AuditError, NodeError
from inference.receipts import SignedReceipt

# Hears how many entries are read of how many.
Progress: TypeAlias = Callable[[int, int], None]


class LogCopy:
    """The entries from `start` on; those before were audited earlier and are asked for again."""

    def __init__(self, log: LogReader, start: int = 0) -> None:
        self._log = log
        self.start = start
        self._file = tempfile.TemporaryFile(buffering=1 << 20)  # noqa: SIM115  # `close` closes it
        self._ends = array("Q")
        self._receipts = array("Q")

    def close(self) -> None:
        """Throw the copy away."""
        self._file.close()

    def __len__(self) -> int:
        """Return the index of the next entry."""
        return self.start + len(self._ends)

    def append(self, page: Sequence[bytes]) -> None:
        """Keep the next entries."""
        end = self._ends[-1] if self._ends else 0
        for data in page:
            end += len(data)
            self._ends.append(end)
        self._file.write(b"".join(page))

    def note_receipt(self, seq: int) -> None:
        """Say that entry `seq` holds a receipt that can be read."""
        self._receipts.append(seq)

    def raw(self, seq: int) -> bytes:
        """Return the bytes of entry `seq`, from `start` on."""
        self._file.flush()
        at = seq - self.start
        begin = self._ends[at - 1] if at else 0
        return os.pread(self._file.fileno(), self._ends[at] - begin, begin)

    def entry(self, seq: int) -> Entry:
        """Return entry `seq`, from `start` on."""
        return parse_entry(self.raw(seq))

    def bare(self, seq: int) -> SignedReceipt:
        """Return the receipt at `seq`, from `start` on, for reading only."""
        data = self.raw(seq)
        return read_bare(data) or open_receipt(parse_entry(data))

    def recall(self, seq: int) -> SignedReceipt | None:
        """Return the receipt at `seq` for evidence; None where the node shows it no more.

        One from before `start` is asked for again: its signature shows whose it is.
        """
        if seq >= self.start:
            return open_receipt(self.entry(seq))
        try:
            [data] = self._log.entries(seq, seq + 1)
            return open_receipt(parse_entry(data))
        except (BadAnswerError, NodeError, AuditError, ValueError):
            return None

    @property
    def receipts(self) -> Mapping[int, SignedReceipt]:
        """The receipts by index, each read when it is asked for."""
        return _Receipts(self, self._receipts)


class _Receipts(Mapping[int, SignedReceipt]):
    def __init__(self, copy: LogCopy, held: Sequence[int]) -> None:
        self._copy = copy
        self._held = held

    def __getitem__(self, seq: int) -> SignedReceipt:
        """Return the receipt at `seq`."""
        entry = self._copy.entry(seq)
        if entry.kind != RECEIPT:
            raise KeyError(seq)
        return open_receipt(entry)

    def __iter__(self) -> Iterator[int]:
        """Go through the indices in order."""
        return iter(self._held)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._held)
