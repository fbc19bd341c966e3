"""The call log: one line of JSON for each call that ended, without prompts, answers or payers.

Who paid stands in the receipt that a line names, and nowhere here: a log that is copied about must
not tell who asked how much of what.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from queue import Full, Queue
from threading import Thread
from typing import Final

from inference.call_facts import UNPAID, CallFacts
from registry.errors import ConfigError

# Lines that wait for a slow disk before new ones are dropped; about 4 MiB.
_MAX_WAITING: Final = 10_000
# Seconds that closing waits for what is not written yet.
_CLOSE_S: Final = 5.0


class Journal:
    """Writes lines on a thread of its own: a call only puts its facts into a queue.

    `where` is a file, or "-" for stderr. The file is opened for each batch of lines, so that it
    can be moved away at any time. `dropped` counts lines lost to a full queue or a failing disk.
    """

    def __init__(self, where: str, *, limit: int = _MAX_WAITING) -> None:
        """Open the log; at most `limit` lines wait for the disk.

        Raises `ConfigError` for a file that cannot be written.
        """
        self._where: Final = where
        self._queue: Final[Queue[CallFacts | None]] = Queue(limit)
        self.dropped = 0
        try:
            self._write(b"")
        except OSError as error:
            raise ConfigError(
                f"node.call_log: {where}: {error.strerror}", hint="name a file that can be written"
            ) from error
        self._thread: Final = Thread(target=self._run, name="call-log", daemon=True)
        self._thread.start()

    def ended(self, facts: CallFacts) -> None:
        """Note a call; returns at once. Whoever only asked for the price is not noted."""
        if facts.status == UNPAID:
            return
        try:
            self._queue.put_nowait(facts)
        except Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        with suppress(Full):
            self._queue.put(None, timeout=_CLOSE_S)
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            open_ = None not in batch
            calls = [facts for facts in batch if facts is not None]
            try:
                self._write("".join(line(facts) for facts in calls).encode())
            except OSError:
                self.dropped += len(calls)

    def _write(self, data: bytes) -> None:
        if self._where == "-":
            sys.stderr.write(data.decode())
            sys.stderr.flush()
            return
        # For the operator's eyes alone; a pipe that nobody reads is an error, not a wait for ever.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        file = os.open(self._where, flags, 0o600)
        try:
            while data:
                data = data[os.write(file, data) :]
        finally:
            os.close(file)


def line(facts: CallFacts) -> str:
    """Return a call as one line of ASCII JSON; milliseconds to a tenth, amounts as text."""
    started = datetime.fromtimestamp(facts.started_ns / 1e9, UTC)
    told: dict[str, object] = {
        "time": started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": facts.model,
        "operation": facts.operation,
        "status": facts.status,
        "code": facts.code,
        "scheme": facts.scheme,
        "streamed": facts.streamed,
        "ttft_ms": _milliseconds(_first_token_s(facts)),
        "duration_ms": _milliseconds(facts.duration_s),
    }
    if facts.receipt is not None:
        receipt = facts.receipt
        told |= {
            "model_id": "0x" + receipt.model.model_id.hex(),
            "input_tokens": receipt.tokens.input,
            "output_tokens": receipt.tokens.output,
            "finish": receipt.response.finish,
            "charged": str(receipt.payment.charged),
            "asset": receipt.payment.asset,
            "receipt": receipt.id,
            "seq": receipt.seq,
        }
    return json.dumps(told) + "\n"


def _first_token_s(facts: CallFacts) -> float | None:
    """Return how long the first token took once the call was paid, as the metrics count it."""
    if facts.first_token_s is None or facts.paid_s is None:
        return None
    return facts.first_token_s - facts.paid_s


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
