"""A row of the contract's claim, and how much of a channel may be claimed now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference.payments.account import Account, Open
from inference.payments.channel import ChannelConfig


@dataclass(frozen=True)
class Claim:
    """A row of the contract's claim: raise the channel's claimed total to `total`.

    `claimed` is the total it had in our view of the chain; `withdraw_requested_at` is 0 or the
    unix second after which, plus the channel's delay, what is unclaimed above `usable` is lost.
    """

    channel_id: str
    config: ChannelConfig
    max_claimable: int
    signature: bytes
    total: int
    claimed: int
    withdraw_requested_at: int
    usable: int = 0

    @property
    def amount(self) -> int:
        """What the claim would book."""
        return self.total - self.claimed

    @property
    def endangered(self) -> bool:
        """Whether a pending withdrawal takes away part of it unless it is claimed before."""
        return self.withdraw_requested_at > 0 and self.total > self.usable


def claim_of(account: Account, opened: Sequence[Open]) -> Claim | None:
    """Return what can be claimed of a channel now, with these calls in flight; None for nothing."""
    # A row above its ceiling or balance would make the contract refuse the whole batch.
    total = min(account.claimable(opened), account.signed_max, account.chain.balance)
    if total <= account.chain.total_claimed:
        return None
    return Claim(
        channel_id=account.channel_id,
        config=account.config,
        max_claimable=account.signed_max,
        signature=account.signature,
        total=total,
        claimed=account.chain.total_claimed,
        withdraw_requested_at=account.chain.withdraw_requested_at,
        usable=account.chain.usable,
    )
