"""The books of one channel, as pure arithmetic: admit, commit, release, claim.

Amounts are cumulative atomic units:

- `charged`: what the payer was told it has been charged,
- `credit`: the part of it that was told but not used (the rest of a stream's quote); it lowers
  the next told charge and is never claimed,
- `owed` = charged - credit: the sum of what calls actually cost,
- `signed_max`: the highest ceiling the payer signed.

Always, and `tests/properties` tries to break each:

1. Σ actual costs = charged - credit - quotes of streams still in flight.
2. charged ≤ signed_max, once a voucher was accepted.
3. claimable ≤ owed, and owed ≤ signed_max.
4. An admitted voucher ≤ balance - pending withdrawal, and > total_claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from inference.errors import CorrectivePaymentError, InProgressError, NodeError
from inference.payments.channel import ChannelConfig, Voucher, refuse

Kind: TypeAlias = Literal["call", "stream", "refund"]

_MISMATCH: Final = "invalid_batch_settlement_evm_cumulative_amount_mismatch"
_BEYOND: Final = "invalid_batch_settlement_evm_cumulative_exceeds_balance"
_BELOW: Final = "invalid_batch_settlement_evm_cumulative_below_claimed"


@dataclass(frozen=True)
class OnchainChannel:
    """What the chain says of a channel at `block`, read at unix second `read_at`."""

    balance: int
    total_claimed: int
    withdraw_amount: int
    withdraw_requested_at: int
    refund_nonce: int
    block: int
    read_at: int

    @property
    def usable(self) -> int:
        """The part of the balance that no pending withdrawal will take away."""
        return self.balance - self.withdraw_amount


@dataclass(frozen=True)
class Open:
    """A call in flight. `known` is the cumulative charge its voucher was built upon.

    A stream's quote is in `charged` already: `told` is what it added there, the rest was credit.
    """

    id: str
    kind: Kind
    amount: int
    least: int
    known: int
    told: int = 0


@dataclass(frozen=True)
class Wish:
    """A call that asks to be admitted: its quote, and the least it can cost."""

    id: str
    voucher: Voucher
    amount: int
    least: int


@dataclass(frozen=True)
class Account:
    """The state of one channel between two calls."""

    channel_id: str
    config: ChannelConfig
    charged: int
    credit: int
    signed_max: int
    signature: bytes
    chain: OnchainChannel

    @classmethod
    def opened(cls, channel_id: str, config: ChannelConfig, chain: OnchainChannel) -> Account:
        """Return the books of a channel seen for the first time: charged is what was claimed."""
        return cls(channel_id, config, chain.total_claimed, 0, 0, b"", chain)

    @property
    def owed(self) -> int:
        """What calls cost, with the quotes of streams in flight."""
        return self.charged - self.credit

    def mirrored(self, chain: OnchainChannel) -> Account:
        """Return the books with a newer view of the chain; an older one changes nothing."""
        if chain.block < self.chain.block:
            return self
        # More claimed than we know of: our file is an old copy. What was claimed was charged.
        missed = max(0, chain.total_claimed - self.owed)
        return replace(self, chain=chain, charged=self.charged + missed)

    def admit(self, opened: Sequence[Open], wish: Wish, *, in_flight: int) -> tuple[Account, Open]:
        """Return the books with `wish` in flight, or refuse it. `in_flight` bounds the siblings.

        1 the voucher was built upon a charge we told: exactly `charged` when nothing is in
        flight; else anything from the oldest sibling's base up to all their quotes · 2 it is
        covered by the balance and above what was claimed · 3 it fits: what siblings must cost at
        the least leaves room for this call's least below the highest ceiling. Siblings share
        that ceiling; when they together cost more, the last to end is refused, not overcharged.
        """
        if len(opened) >= in_flight or any(other.kind == "refund" for other in opened):
            raise refuse("channel_busy", f"{len(opened)} calls of this channel are in flight")
        ceiling = wish.voucher.max_claimable
        known = ceiling - wish.amount
        calls = [other for other in opened if other.kind == "call"]
        lowest = min((other.known for other in opened), default=self.charged)
        highest = self.charged + sum(other.amount for other in calls)
        if not lowest <= known <= highest:
            raise self.correction(_MISMATCH, f"the voucher builds upon {known} charged")
        if not self.chain.balance:
            raise refuse("channel_not_found", "nothing was deposited in this channel")
        if ceiling > self.chain.usable:
            message = f"{ceiling} of a balance of {self.chain.usable}"
            # Official clients recover from a mismatch only: one that did not hear how its refund
            # ended still believes in the money that went back.
            code = _MISMATCH if self.chain.refund_nonce else _BEYOND
            raise self.correction(code, message)
        if ceiling <= self.chain.total_claimed:
            raise self.correction(_BELOW, f"{self.chain.total_claimed} are claimed already")
        signed = self._signed(wish.voucher)
        own = Open(wish.id, "call", wish.amount, wish.least, known)
        signed._check_room(own, wish.least, opened)
        return signed, own

    def prepay(self, own: Open, opened: Sequence[Open]) -> tuple[Account, Open]:
        """Return the books with the whole quote of `own` charged, as a stream's head tells it."""
        self._check_room(own, own.amount, opened)
        after = self._charge(own.amount)
        told = after.charged - self.charged
        return after, replace(own, kind="stream", least=own.amount, told=told)

    def commit(self, own: Open, actual: int) -> Account:
        """Return the books after a call cost `actual`; nothing beyond the signed ceiling."""
        if not 0 <= actual <= own.amount:
            raise NodeError(f"a charge of {actual} was reserved with {own.amount}")
        if own.kind == "stream":
            return replace(self, credit=self.credit + own.amount - actual)
        after = self._charge(actual)
        if after.charged > min(self.signed_max, self.chain.balance):
            raise refuse("channel_busy", "calls in flight have used up the signed ceiling")
        return after

    def release(self, own: Open, *, alone: bool) -> Account:
        """Return the books after a call failed and nobody was told of a charge.

        A stream's quote is taken back when no other call (`alone`) built upon it since, and
        becomes credit otherwise.
        """
        if own.kind != "stream":
            return self
        if alone and self.charged == own.known + own.told:
            return replace(
                self,
                charged=self.charged - own.told,
                credit=self.credit + own.amount - own.told,
            )
        return replace(self, credit=self.credit + own.amount)

    def claimable(self, opened: Sequence[Open]) -> int:
        """Return the cumulative amount that may be claimed on chain now."""
        return self.owed - sum(other.amount for other in opened if other.kind == "stream")

    def admit_refund(self, opened: Sequence[Open], voucher: Voucher, amount: int | None) -> int:
        """Return how much of `amount` (None: all) can be given back once `owed` was claimed."""
        if any(other.kind == "refund" for other in opened):
            raise InProgressError("a refund of this channel is under way")
        if opened:
            raise refuse("channel_busy", f"{len(opened)} calls of this channel are in flight")
        if voucher.max_claimable != self.charged:
            raise self.correction(_MISMATCH, f"the refund builds upon {voucher.max_claimable}")
        left = max(0, self.chain.balance - self.owed)
        if not left or (amount or 0) > left:
            raise refuse("refund_no_balance", f"{left} can be refunded")
        return amount or left

    def closed(self) -> Account:
        """Return the books after all was refunded: unused credit went back with the rest."""
        return replace(self, charged=self.owed, credit=0)

    def state(self) -> dict[str, object]:
        """Return x402's `channelState`."""
        return {
            "channelId": self.channel_id,
            "balance": str(self.chain.balance),
            "totalClaimed": str(self.chain.total_claimed),
            "withdrawRequestedAt": self.chain.withdraw_requested_at,
            "refundNonce": str(self.chain.refund_nonce),
            "chargedCumulativeAmount": str(self.charged),
        }

    def correction(self, code: str, message: str) -> CorrectivePaymentError:
        """Return the refusal from which a client learns where the channel stands.

        Without a voucher to prove it by, clients resume from the chain, and so do we.
        """
        extra: dict[str, object] = {"channelState": self.state()}
        if self.signature and self.charged <= self.signed_max:
            extra["voucherState"] = {
                "signedMaxClaimable": str(self.signed_max),
                "signature": f"0x{self.signature.hex()}",
            }
        return CorrectivePaymentError(
            code, f"{message}, this node charged {self.charged}", extra=extra
        )

    def _check_room(self, own: Open, amount: int, opened: Sequence[Open]) -> None:
        """Refuse unless `amount` and what siblings must cost fit below the signed ceiling."""
        siblings = sum(o.least for o in opened if o.kind == "call" and o.id != own.id)
        room = min(self.signed_max, self.chain.usable) - self.charged
        if max(0, amount - self.credit) + siblings <= room:
            return
        # A client that lags behind can catch up and sign more; one in step must wait.
        if own.known < self.charged:
            raise self.correction(_MISMATCH, f"the voucher builds upon {own.known} charged")
        raise refuse("channel_busy", "calls in flight use up the signed ceiling")

    def _signed(self, voucher: Voucher) -> Account:
        if voucher.max_claimable <= self.signed_max:
            return self
        signed = voucher.max_claimable, voucher.signature
        # Not `replace`, here and below: it takes as long as reading the account.
        return Account(self.channel_id, self.config, self.charged, self.credit, *signed, self.chain)

    def _charge(self, amount: int) -> Account:
        told = max(0, amount - self.credit)
        books = self.charged + told, self.credit - (amount - told)
        return Account(
            self.channel_id, self.config, *books, self.signed_max, self.signature, self.chain
        )
