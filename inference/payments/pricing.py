"""What a call costs: a pure function of a price and a usage, in integers, rounded up once.

The quote is the charge at the largest usage the request allows, so a charge never exceeds it. What
a payer's plan takes off (`plans`) only lowers it further.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from inference.errors import NodeError
from registry.errors import ConfigError

MILLION: Final = 1_000_000
PERMILLE: Final = 1000
_MS: Final = 1000
# The contract's amounts are uint128; a quote must stay far below one.
_MAX_PRICE: Final = 2**96
# A day: whatever takes longer was not one call.
MAX_SECONDS: Final = 86_400


@dataclass(frozen=True)
class Price:
    """Atomic units of the asset: per call, per million tokens read and made, per second.

    Of the seconds a call computes, at most `most_seconds` are charged: the quote needs a bound.
    """

    per_call: int
    input_per_million: int
    output_per_million: int
    per_second: int = 0
    most_seconds: int = 0

    def __post_init__(self) -> None:
        amounts = (
            self.per_call,
            self.input_per_million,
            self.output_per_million,
            self.per_second,
        )
        whole = (*amounts, self.most_seconds)
        if any(isinstance(p, bool) or not isinstance(p, int) for p in whole):
            raise ConfigError(
                "prices are whole atomic units", hint="write 1 µUSD as 1, not 0.000001"
            )
        if min(amounts) < 0 or max(amounts) > _MAX_PRICE:
            raise ConfigError(
                f"a price lies between 0 and {_MAX_PRICE} atomic units, not {amounts}"
            )
        if not any(amounts):
            raise ConfigError("a price of 0 cannot be paid", hint="set per_call to at least 1")
        if not 0 <= self.most_seconds <= MAX_SECONDS:
            raise ConfigError(f"most_seconds lies between 1 and {MAX_SECONDS}")
        if bool(self.per_second) != bool(self.most_seconds):
            raise ConfigError(
                "per_second and most_seconds are set together",
                hint="a quote is the most a call can cost: it needs the most seconds charged",
            )

    @property
    def most_ms(self) -> int:
        """The most milliseconds of a call that are charged."""
        return self.most_seconds * _MS

    def to_json(self) -> dict[str, int]:
        """Return its parts by name; seconds only where they cost something."""
        parts = asdict(self)
        return parts if self.per_second else dict(list(parts.items())[:3])


@dataclass(frozen=True)
class Usage:
    """Tokens and milliseconds of computing of one call, as measured."""

    input_tokens: int
    output_tokens: int
    compute_ms: int = 0

    def __post_init__(self) -> None:
        if min(self.input_tokens, self.output_tokens, self.compute_ms) < 0:
            raise NodeError(f"a usage cannot be negative: {self}")


def charge(price: Price, usage: Usage) -> int:
    """Return what `usage` costs, in atomic units; a fraction of a unit is rounded up."""
    millionths = usage.input_tokens * price.input_per_million
    millionths += usage.output_tokens * price.output_per_million
    millionths += min(usage.compute_ms, price.most_ms) * price.per_second * (MILLION // _MS)
    return price.per_call - (-millionths // MILLION)


def quote(price: Price, input_tokens: int, max_output_tokens: int) -> int:
    """Return the most a call can cost: its charge when it uses all that it may."""
    return charge(price, Usage(input_tokens, max_output_tokens, price.most_ms))


def least(price: Price, input_tokens: int) -> int:
    """Return the least a served call can cost: its charge when it says nothing, at once."""
    return charge(price, Usage(input_tokens, 0))


def discounted(listed: int, permille: int) -> int:
    """Return `listed` less a discount; a fraction of a unit is the payer's."""
    if not 0 <= permille <= PERMILLE:
        raise NodeError(f"a discount of {permille} thousandths")
    return listed * (PERMILLE - permille) // PERMILLE
