"""What a call costs: a pure function of a price and a usage, in integers, rounded up once.

The quote is the charge at the largest usage the request allows, so a charge never exceeds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from inference.errors import NodeError
from registry.errors import ConfigError

MILLION: Final = 1_000_000
# The contract's amounts are uint128; a quote must stay far below one.
_MAX_PRICE: Final = 2**96


@dataclass(frozen=True)
class Price:
    """Atomic units of the asset: per call, and per million input and output tokens."""

    per_call: int
    input_per_million: int
    output_per_million: int

    def __post_init__(self) -> None:
        parts = (self.per_call, self.input_per_million, self.output_per_million)
        if any(isinstance(p, bool) or not isinstance(p, int) for p in parts):
            raise ConfigError(
                "prices are whole atomic units", hint="write 1 µUSD as 1, not 0.000001"
            )
        if min(parts) < 0 or max(parts) > _MAX_PRICE:
            raise ConfigError(f"a price lies between 0 and {_MAX_PRICE} atomic units, not {parts}")
        if not any(parts):
            raise ConfigError("a price of 0 cannot be paid", hint="set per_call to at least 1")


@dataclass(frozen=True)
class Usage:
    """Tokens of one call, as measured."""

    input_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if self.input_tokens < 0 or self.output_tokens < 0:
            raise NodeError(f"a usage cannot be negative: {self}")


def charge(price: Price, usage: Usage) -> int:
    """Return what `usage` costs, in atomic units; a fraction of a unit is rounded up."""
    tokens = usage.input_tokens * price.input_per_million
    tokens += usage.output_tokens * price.output_per_million
    return price.per_call - (-tokens // MILLION)


def quote(price: Price, input_tokens: int, max_output_tokens: int) -> int:
    """Return the most a call can cost: its charge when it uses every token it may."""
    return charge(price, Usage(input_tokens, max_output_tokens))


def least(price: Price, input_tokens: int) -> int:
    """Return the least a served call can cost: its charge when it says nothing."""
    return charge(price, Usage(input_tokens, 0))
