"""What gas is paid with: the first offer for a transaction, and how it is raised (EIP-1559).

Pure; all fees are wei per gas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from registry.errors import GasTooDearError

GWEI: Final = 10**9
# Clients take a replacement that offers a tenth more of both fees (geth's pricebump); an eighth
# is safely above it, and is how fast the base fee itself can grow from block to block.
_RAISE: Final = 8
_LEAST_RAISE: Final = 10
# Where nothing is mined at all, more money helps nothing: no offer beyond so many times the market.
_OVER: Final = 8
# Chains whose gas costs nothing still want replacements to offer more.
_FLOOR: Final = GWEI // 1000


@dataclass(frozen=True)
class Fees:
    """What a transaction offers: `tip` to the block's maker, `most` with the base fee in it."""

    tip: int
    most: int


@dataclass(frozen=True)
class Market:
    """What the chain asks now: the newest block's base fee, and the tip that is usual."""

    base_fee: int
    tip: int


@dataclass(frozen=True)
class FeePolicy:
    """How much may be offered, and after how many seconds without being mined it is raised."""

    cap: int = 500 * GWEI
    replace_after_s: float = 30.0

    def first(self, market: Market) -> Fees:
        """Return the first offer. Raises `GasTooDearError` when the cap buys no place in a block.

        Six full blocks in a row double the base fee, so twice the base fee holds for a while.
        """
        if market.base_fee + market.tip > self.cap:
            raise GasTooDearError(market.base_fee + market.tip, self.cap)
        return Fees(market.tip, min(2 * market.base_fee + market.tip, self.cap))

    def raised(self, before: Fees, market: Market) -> Fees | None:
        """Return the next offer for a nonce, None when the cap leaves no room for one."""
        tip = max(before.tip + before.tip // _RAISE + 1, market.tip)
        most = max(before.most + before.most // _RAISE + 1, 2 * market.base_fee + tip)
        fees = Fees(
            min(tip, self.cap, _OVER * max(market.tip, _FLOOR)),
            min(most, self.cap, _OVER * max(market.base_fee + market.tip, _FLOOR)),
        )
        enough = _at_least(fees.tip, before.tip) and _at_least(fees.most, before.most)
        return fees if enough else None


def _at_least(now: int, before: int) -> bool:
    return now > before and now * _LEAST_RAISE >= before * (_LEAST_RAISE + 1)
