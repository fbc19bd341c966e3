"""Where the time of a paid call goes: stopwatches around its steps, in our node's process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from inference import paid_call, sale, sqlite
from inference.audit.log import AuditLog
from inference.payments import cashier
from inference.payments.cashier import Cashier
from inference.payments.ledger import ChannelLedger
from inference.payments.secured import Booked
from inference.prepared import drive
from inference.statements import Statements

_STEPS: Final[tuple[tuple[Any, str, str], ...]] = (
    (paid_call, "decode_payment", "read the payment header"),
    (cashier, "verify_payment", "verify the voucher"),
    (ChannelLedger, "reserve", "reserve: books"),
    (Cashier, "book", "charge: books"),
    (Statements, "about", "receipts: make and sign both"),
    (AuditLog, "append", "log: entry and tree"),
    (sale, "store_receipt", "receipt: store"),
    (Booked, "response", "write the answer's header"),
)


class Stopwatches:
    """Times by step, in seconds, since the last `lap`."""

    def __init__(self) -> None:
        self._times: Final[dict[str, list[float]]] = {}
        self._begun = False

    def begin(self) -> None:
        """Put a stopwatch around each step, once; there is one set for a process."""
        if self._begun:
            return
        self._begun = True
        for place, name, step in _STEPS:
            setattr(place, name, self._watched(getattr(place, name), step))
        commit = {
            False: self._watched(drive, "commit the reservation, without fsync"),
            True: self._watched(drive, "commit the charge, with fsync"),
        }
        lasting = [True]

        def driven(tx: Any, text: str, values: Any = ()) -> Any:
            if text.startswith("PRAGMA synchronous"):
                lasting[0] = text.endswith("FULL")
            return (commit[lasting[0]] if text == "COMMIT" else drive)(tx, text, values)

        vars(sqlite)["drive"] = driven

    def lap(self) -> dict[str, float]:
        """Return the mean of each step in µs, and begin anew."""
        found = {
            step: round(sum(times) / len(times) * 1e6, 1) for step, times in self._times.items()
        }
        self._times.clear()
        return found

    def _watched(self, function: Callable[..., Any], step: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self._times.setdefault(step, []).append(time.perf_counter() - began)

        return timed
