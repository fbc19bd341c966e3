"""What is told of a call that ended: figures and names, never a prompt, an answer or a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inference.receipt_format import Receipt

# How calls end that no receipt speaks of, beside a receipt's own ok, partial, refused and failed.
# `unpaid` asked for the price; `refused` here was refused before its payment was secured, by the
# caller's fault; `unavailable` is a part that did not answer.
UNPAID: Final = "unpaid"
REFUSED: Final = "refused"
UNAVAILABLE: Final = "unavailable"
ERROR: Final = "error"


@dataclass(frozen=True)
class CallFacts:
    """One call that ended. `model` is the catalog's name for it, empty where none was found.

    `started_ns` is in unix nanoseconds. Seconds since then: `paid_s` when the payment was secured,
    `first_token_s` when a stream's first token left, `duration_s` at the end; None is never.
    `code` names the error, or is empty. `receipt` is None for what no receipt was written of.
    """

    model: str
    path: str
    status: str
    code: str
    streamed: bool
    started_ns: int
    paid_s: float | None
    first_token_s: float | None
    duration_s: float
    receipt: Receipt | None

    @property
    def scheme(self) -> str:
        """The x402 scheme it was paid by, `none` where nothing was secured."""
        return self.receipt.payment.scheme if self.receipt else "none"

    @property
    def operation(self) -> str:
        """What was done, in the words of OpenTelemetry where they have one."""
        return _OPERATIONS.get(self.path, self.path.rpartition("/")[2])


_OPERATIONS: Final = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
