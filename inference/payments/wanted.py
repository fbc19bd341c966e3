"""What a call wants secured before any work is done for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection

from inference.payments.reservation import Reservation

# What is written beside a reservation, in its transaction.
Claim: TypeAlias = Callable[[Connection, Reservation], None]


@dataclass(frozen=True)
class Wanted:
    """What a call wants secured: its `quote`, and at the `least` what it must cost.

    A stream is charged its quote at once.
    """

    quote: int
    least: int
    stream: bool
    now: int
    binding: bytes
    claim: Claim
