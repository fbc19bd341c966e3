"""The payer's passbook: what it was charged on its channels, by the receipts it was given.

Each receipt says what all calls of its channel have cost, itself included. So between two receipts
of one payer nothing may be missing: what was charged there, no receipt shows. The sums are compared
when no call is under way, since calls at the same time end in any order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from inference.audit.document import ZERO_DIGEST
from inference.errors import AuditError
from inference.receipts import SignedReceipt

_CHARGE: Final = 5
# Receipts a payer keeps at hand, for whoever audits the node with them.
_KEPT: Final = 1000


@dataclass
class Line:
    """One call. `is_answered` says that the node answered it, with `signed` or without a receipt.

    What became of a call that was broken off nobody can say but the log.
    """

    signed: SignedReceipt | None = None
    is_answered: bool = False


class Passbook:
    """Receipts of one payer at one node, the newest last; of all calls, also those that failed.

    It holds for whoever pays alone: calls of another client from the same wallet are in no receipt
    here, and would be held against the node.
    """

    def __init__(self) -> None:
        self.receipts: Final[deque[SignedReceipt]] = deque(maxlen=_KEPT)
        self._last: Final[dict[bytes, SignedReceipt]] = {}
        self._new: list[SignedReceipt] = []
        self._under_way = 0
        self._is_broken = False

    @contextmanager
    def call(self) -> Iterator[Line]:
        """Begin a call, and end it. Raises `AuditError` (5) for a charge that no receipt shows."""
        line = Line()
        self._under_way += 1
        try:
            yield line
        finally:
            self._under_way -= 1
            self._enter(line)
        self._compare()

    def _enter(self, line: Line) -> None:
        if line.signed is not None:
            self.receipts.append(line.signed)
            if line.signed.receipt.payment.channel != ZERO_DIGEST:
                self._new.append(line.signed)
        elif not line.is_answered:
            self._is_broken = True

    def _compare(self) -> None:
        if self._under_way:
            return
        new, self._new = sorted(self._new, key=_sum), []
        is_broken, self._is_broken = self._is_broken, False
        for signed in new:
            payment = signed.receipt.payment
            last = self._last.get(payment.channel)
            self._last[payment.channel] = signed
            if last is None or is_broken:
                continue
            before = last.receipt.payment.cumulative
            if payment.cumulative - payment.charged != before:
                raise AuditError(
                    _CHARGE,
                    f"the channel had {before} by the receipt before, this call cost "
                    f"{payment.charged}, and the receipt says {payment.cumulative}",
                    evidence={"receipt": signed.public(), "before": last.public()},
                )


def _sum(signed: SignedReceipt) -> tuple[int, int]:
    return signed.receipt.payment.cumulative, signed.receipt.seq
