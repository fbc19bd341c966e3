"""A call that is paid for, and what it became in the books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inference.errors import NodeError, UnavailableError
from inference.payments.exact import VerifiedAuthorization
from inference.payments.reservation import Reservation
from inference.payments.verification import VerifiedPayment
from inference.payments.x402 import settle_response
from registry.errors import WeightproofError

_ZERO: Final = bytes(32)
_NOT_SERVED: Final = ("not_served", "nothing was served or charged")
_PENDING: Final = (
    "settlement_pending",
    "nothing was served; the payment may have moved: do not pay again, send the same one again",
)


@dataclass(frozen=True)
class Moved:
    """Money that moved on chain for a call: transaction (32 bytes), amount in atomic units."""

    transaction: bytes
    amount: int

    @property
    def text(self) -> str:
        """The transaction hash as 0x… text."""
        return f"0x{self.transaction.hex()}"


class DepositedError(NodeError):
    """A deposit moved, and its call was refused after it: the payer must learn of its deposit.

    Never a 402, which would have the payer deposit again. `payer` is whose channel it is in.
    """

    def __init__(self, cause: WeightproofError, moved: Moved, payer: str) -> None:
        super().__init__(
            f"the deposit is in the channel, but the call was not served: {cause.message}"
        )
        self.status = 503 if isinstance(cause, UnavailableError) else 500
        self.code = cause.code if isinstance(cause, NodeError) else self.code
        self.moved = moved
        self.payer = payer

    def response(self, network: str) -> str:
        """Return the PAYMENT-RESPONSE that tells the payer; `network` is the chain's x402 name."""
        return settle_response(
            success=True,
            network=network,
            payer=self.payer,
            transaction=self.moved.text,
            amount=self.moved.amount,
            extra={"chargedAmount": "0"},
        )


@dataclass(frozen=True)
class Secured:
    """A call that is paid for, up to its quote. `payment` is what was verified.

    `since` is a block at which an `exact` authorisation was still unused.
    """

    reservation: Reservation
    payment: VerifiedPayment | VerifiedAuthorization
    moved: Moved | None = None
    since: int = 0

    @property
    def scheme(self) -> str:
        """The x402 scheme it is paid by."""
        return self.reservation.scheme


@dataclass(frozen=True)
class Booked:
    """What a finished call became in the books; amounts in atomic units, names 32 bytes.

    `cumulative` is what all finished calls of the channel cost together, this one included.
    `pending`: the call failed, and whether its `exact` payment moved is not known yet.
    """

    scheme: str
    network: str
    asset: str
    payer: str
    pay_to: str
    channel: bytes
    nonce: bytes
    quote: int
    charged: int
    cumulative: int
    moved: Moved | None
    extra: Mapping[str, object]
    success: bool
    pending: bool = False

    @property
    def transaction(self) -> bytes:
        """The transaction that moved money for this call, zero if none did."""
        return self.moved.transaction if self.moved else _ZERO

    def response(self, written: Mapping[str, str]) -> str:
        """Return the PAYMENT-RESPONSE of a finished call; `written` are extensions as JSON."""
        return settle_response(
            success=self.success,
            network=self.network,
            payer=self.payer,
            transaction=self.moved.text if self.moved else "",
            amount=self.moved.amount if self.moved else None,
            error=None if self.success else _PENDING if self.pending else _NOT_SERVED,
            extra=self.extra,
            written=written,
        )
