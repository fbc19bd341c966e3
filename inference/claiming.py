"""Which vouchers are worth their gas, and claiming them in batches that fit into a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from inference.payments.channels_contract import ChannelsContract
from inference.payments.claim import Claim
from registry.chain.block import TxReceipt
from registry.errors import TransactionFailedError, TransactionRefusedError
from registry.signing.signer import Signer

# Measured on our contract (tests/inference/settlement/test_gas.py): a row of a claim; and a claim
# without its rows together with the settle that follows.
ROW_GAS: Final = 20_500
BATCH_GAS: Final = 75_000
SETTLE_GAS: Final = 47_000
# A row is 576 bytes of calldata, and clients pass on no transaction above 128 KiB.
MAX_ROWS: Final = 200
_WEI: Final = 10**18


@dataclass(frozen=True)
class ClaimPolicy:
    """When a claim is worth making. Amounts are atomic units of the token.

    What is claimed must be `profit` times what its gas costs; `coin_price` is what one coin of the
    chain (10^18 wei) costs. Where that is 0, not known, a channel's claim must be `min_amount`.
    Whatever it costs, channels are claimed of which a withdrawal would take what is owed, or that
    had something unclaimed for `max_age_s` seconds. A batch takes `gas_percent` of a block at most.
    """

    profit: int = 10
    coin_price: int = 0
    min_amount: int = 0
    max_age_s: int = 7 * 86_400
    gas_percent: int = 25

    def least(self, gas: int, gas_price: int) -> int:
        """Return the amount for which spending `gas` is worth it, at `gas_price` wei."""
        if not self.coin_price:
            return self.min_amount
        return -(-self.profit * gas * gas_price * self.coin_price // _WEI)

    def choose(
        self, claims: Sequence[Claim], since: Mapping[str, int], *, gas_price: int, now: int
    ) -> list[Claim]:
        """Return the claims to make at unix second `now`; `since` is when each became unclaimed."""
        forced = {
            claim.channel_id
            for claim in claims
            if claim.endangered or now - since[claim.channel_id] >= self.max_age_s
        }
        least = self.least(ROW_GAS, gas_price)
        chosen = [c for c in claims if c.channel_id in forced or c.amount >= least]
        whole = self.least(BATCH_GAS + ROW_GAS * len(chosen), gas_price)
        # What a deadline forces pays for the batch: all that is worth its own row joins.
        worth = bool(forced) or sum(claim.amount for claim in chosen) >= whole
        return chosen if worth else []


@dataclass(frozen=True)
class Claimed:
    """What was claimed: of how many channels, how much, and the gas it took."""

    channels: int = 0
    amount: int = 0
    gas_used: int = 0

    def __add__(self, other: Claimed) -> Claimed:
        return Claimed(
            self.channels + other.channels,
            self.amount + other.amount,
            self.gas_used + other.gas_used,
        )


@dataclass(frozen=True)
class Claiming:
    """Claims with the node's key. `done` keeps what a mined claim did; `report` tells the log."""

    channels: ChannelsContract
    signer: Signer
    done: Callable[[TxReceipt], None]
    report: Callable[[str, str, str], None]
    _told: set[tuple[str, int]] = field(default_factory=set, init=False)

    def claim(self, claims: Sequence[Claim], *, max_gas: int) -> Claimed:
        """Claim in batches of at most `max_gas`; what the contract refuses is left out and told.

        Raises `ChainError` when the chain does not answer; what was claimed before it is kept.
        """
        parts = [claims[first : first + MAX_ROWS] for first in range(0, len(claims), MAX_ROWS)]
        return sum((self._claim_each(part, max_gas) for part in parts), Claimed())

    def _claim_each(self, claims: Sequence[Claim], max_gas: int) -> Claimed:
        """Halve what does not fit, or is refused, until a refused row stands alone."""
        try:
            gas = self.channels.claim_gas(self.signer, self.signer, claims)
            if gas <= max_gas or len(claims) == 1:
                return self._send(claims, gas)
        except TransactionRefusedError:
            raise  # the sender's fault and no row's
        except TransactionFailedError as error:
            if len(claims) == 1:
                self._refused(claims[0], error)
                return Claimed()
        half = len(claims) // 2
        return self._claim_each(claims[:half], max_gas) + self._claim_each(claims[half:], max_gas)

    def _send(self, claims: Sequence[Claim], gas: int) -> Claimed:
        receipt = self.channels.claim(self.signer, self.signer, claims, gas=gas)
        self.done(receipt)
        booked = self.channels.claimed(receipt)
        return Claimed(len(booked), sum(row.amount for row in booked), receipt.gas_used)

    def _refused(self, claim: Claim, error: TransactionFailedError) -> None:
        """Tell once: it is tried again at every round."""
        if (claim.channel_id, claim.total) not in self._told:
            self._told.add((claim.channel_id, claim.total))
            self.report("claim refused", claim.channel_id, error.message)
