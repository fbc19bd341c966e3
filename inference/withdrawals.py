"""Withdrawals are learned of in time: by the contract's events, and by reading channels again.

A payer that asks for its money back gets it after the channel's withdraw delay, 900 seconds at the
least, and what is unclaimed by then is lost. Its channel takes calls up to what the withdrawal
leaves and no further (`Account.admit`): those stay claimable whenever it ends. So no clock bars a
channel; what must be bounded is how late a withdrawal is learned of. That is the time between two
looks, or, when the chain does not answer them, the age at which the ledger asks for a channel's
state before it takes another call (`ChannelLedger`'s `fresh_s`, a third of the shortest delay).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from inference.audit.bodies import IncidentBody, entry_of
from inference.audit.log import AuditLog
from inference.database import Database
from inference.payments.account import Account
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger
from registry.chain.block import Block

# Blocks that are looked at again: what was reorganised may have brought another event.
_AGAIN: Final = 32
# Channels that are read at one block and stored together.
_PIECE: Final = 100


@dataclass
class Withdrawals:
    """Looks for withdrawals from our channels; `head` asks the chain for its newest block."""

    channels: ChannelsContract
    ledger: ChannelLedger
    database: Database
    log: AuditLog
    head: Callable[[], Block]
    _next: int | None = field(default=None, init=False)

    def look(self) -> None:
        """Read again the channels of which a withdrawal was asked for since the last look.

        The first look reads every channel with something unclaimed. Raises `ChainError`.
        """
        head = self.head()
        if self._next is None:
            names = {claim.channel_id for claim in self.database.read(self.ledger.claims)}
        else:
            first = max(0, self._next - _AGAIN)
            names = self.channels.withdrawals(from_block=first, to_block=head.number)
        self.refresh(names, head)
        self._next = head.number + 1

    def refresh(self, channel_ids: Collection[str], block: Block | None = None) -> None:
        """Read channels as they are at a block, the head unless given; others' are left out."""
        ours = self.database.read(
            lambda tx: [name for name in channel_ids if self.ledger.account(tx, name)]
        )
        if not ours:
            return
        for first in range(0, len(ours), _PIECE):
            # Of a piece, endpoints still have the state of the block by the time it is read.
            at = block if block and not first else self.head()
            self._refresh(ours[first : first + _PIECE], at)

    def _refresh(self, names: Sequence[str], at: Block) -> None:
        now = int(time.time())
        states = {name: self.channels.state(name, now=now, block=at) for name in names}

        def store(tx: Connection) -> None:
            for name, state in states.items():
                before = self.ledger.account(tx, name)
                after = self.ledger.mirror(tx, name, state)
                if before and after and _lost(after) > _lost(before):
                    self._tell(tx, after, now)

        self.database.write_now(store)

    def _tell(self, tx: Connection, account: Account, now: int) -> None:
        chain, lost = account.chain, _lost(account)
        body = IncidentBody.of(
            "withdrawn unclaimed",
            account.channel_id,
            f"{lost} of {account.owed} owed were withdrawn before they were claimed; the channel "
            f"held {chain.balance}, {chain.total_claimed} of it claimed, at block {chain.block}",
            now,
        )
        self.log.append(tx, entry_of(self.log.size(tx), body))


def _lost(account: Account) -> int:
    """Return what is owed and can be claimed no more, unless its payer deposits again."""
    return max(0, account.owed - account.chain.balance)
