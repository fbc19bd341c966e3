"""A call that is paid for, and what it became in the books."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from inference.payments.exact import VerifiedAuthorization
from inference.payments.reservation import Reservation
from inference.payments.verification import VerifiedPayment

_ZERO: Final = bytes(32)


@dataclass(frozen=True)
class Moved:
    """Money that moved on chain for a call: transaction (32 bytes), amount in atomic units."""

    transaction: bytes
    amount: int


@dataclass(frozen=True)
class Secured:
    """A call that is paid for, up to its quote. `payment` is what was verified."""

    reservation: Reservation
    payment: VerifiedPayment | VerifiedAuthorization
    moved: Moved | None = None

    @property
    def scheme(self) -> str:
        """The x402 scheme it is paid by."""
        return self.reservation.scheme


@dataclass(frozen=True)
class Booked:
    """What a finished call became in the books; amounts in atomic units, names 32 bytes.

    `cumulative` is what all finished calls of the channel cost together, this one included.
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

    @property
    def transaction(self) -> bytes:
        """The transaction that moved money for this call, zero if none did."""
        return self.moved.transaction if self.moved else _ZERO
