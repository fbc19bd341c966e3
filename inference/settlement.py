"""Story d, first half: money is settled, and the log's head is anchored.

1. what was sent before is followed; what of it was mined is noted in the log
2. read the channels again; those with a pending withdrawal come first
3. choose the claims that are worth their gas, or have a deadline
4. claim their vouchers on chain, in batches that fit into a block
5. settle: move what was claimed to the receiver
6. note each transaction in the log
7. checkpoint: sign the log's head
8. anchor it on chain

Every step may be repeated: a transaction is noted once, a claim that was booked is a no-op for the
contract, settling nothing moves nothing, and a head that is anchored is not anchored again. While
a transaction of steps 4, 5 or 8 waits to be mined, no further one is sent: it could only queue.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from sqlalchemy import Connection

from inference.audit.anchor import AnchorContract
from inference.audit.bodies import IncidentBody, StartBody, entry_of
from inference.audit.checkpoint import SignedCheckpoint, sign, verify
from inference.audit.entry import ANCHOR, Entry, parse_entry
from inference.audit.log import AuditLog
from inference.audit.node_registry import NodeRegistry
from inference.audit.note_key import note_key
from inference.claiming import SETTLE_GAS, Claimed, Claiming, ClaimPolicy
from inference.database import Database, LockTakenError
from inference.dues import unclaimed
from inference.errors import SettlementError
from inference.notes import ACTIONS, Notes
from inference.outcomes import Outcomes
from inference.payments.authorizations import AuthorizationBook
from inference.payments.channels_contract import ChannelsContract
from inference.payments.claim import Claim
from inference.payments.ledger import ChannelLedger
from inference.payments.token_contract import TokenContract
from inference.payments.verification import Terms
from inference.sent_book import SentBook
from inference.settled import AnchoredHead, Settled
from inference.succession import Succession
from inference.withdrawals import Withdrawals
from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.chain.signed import Sent
from registry.errors import ConfigError, TransactionFailedError
from registry.signing.signer import Signer

# Held by the node that sends for all channels: two would claim the same.
_ALONE: Final = "settlement"


@dataclass(frozen=True)
class Settlement:
    """Settles for one node. Every method waits for the chain: call it from a thread."""

    chain: Chain
    database: Database
    book: SentBook
    log: AuditLog
    ledger: ChannelLedger
    authorizations: AuthorizationBook
    channels: ChannelsContract
    token: TokenContract
    anchors: AnchorContract
    terms: Terms
    signer: Signer
    policy: ClaimPolicy
    from_block: int = 0
    bonds: NodeRegistry | None = None

    def tick(self, *, everything: bool = False) -> Settled:
        """Run steps 1 to 6; `everything` is claimed, worth its gas or not.

        Raises `ChainError`, and `SettlementError` while something sent before waits to be mined;
        what was done before it stays done.
        """
        with self.database.exclusive(_ALONE):
            self.follow("claim", "settle")  # 1
            self.withdrawals.refresh([claim.channel_id for claim in self._claims()])  # 2
            claimed = self._claim(self._claims() if everything else self._chosen())  # 3, 4, 6
            amount, gas = self._settle(everything)  # 5, 6
        self.resolve()
        return Settled(claimed.channels, claimed.amount, amount, claimed.gas_used + gas)

    def rescue(self) -> Claimed:
        """Look for new withdrawals, and claim at once what one of them would take away."""
        with self.database.exclusive(_ALONE):
            self.withdrawals.look()
            if not (endangered := [claim for claim in self._claims() if claim.endangered]):
                return Claimed()
            # A refund that waits holds up nothing: behind it in the line a claim is as good.
            self.follow("claim")
            return self._claim(endangered)

    def checkpoint(self) -> SignedCheckpoint:
        """Sign the log's head as it is now (7) and keep it."""
        domain, node, origin = self.anchors.domain, self.signer.address, self.log.origin

        def kept(tx: Connection) -> str | None:
            return self.log.note(tx, self.log.size(tx))

        # One by an older version lacks the line that public tools read.
        if (note := self.database.read(kept)) and note_key(self.signer, origin).is_in(note):
            return verify(note, node, domain, origin=origin)

        def keep(tx: Connection) -> SignedCheckpoint:
            signed = sign(self.log.checkpoint(tx), self.signer, domain)
            return replace(signed, note=self.log.save_checkpoint(tx, signed))

        return self.database.write_now(keep)

    def anchor(self) -> AnchoredHead:
        """Sign the head and write it on chain (8), unless nothing but its own note is new."""
        with self.database.exclusive(_ALONE):
            self.follow("anchor")
            signed = self.checkpoint()
            if self.database.read(lambda tx: self._is_anchored(tx, signed.checkpoint.size)):
                return AnchoredHead(signed, None)
            receipt = self.anchors.anchor(self.signer, signed)
            self.database.write_now(lambda tx: self.note(tx, "anchor", receipt))
            return AnchoredHead(signed, receipt)

    def unanchored(self) -> int:
        """Return how many entries no head that is known to be anchored has."""
        return self.database.read(lambda tx: self.log.size(tx) - self.log.anchored_size(tx))

    def start(self, software: str) -> None:
        """Open the log for a node that begins to sell, and settle what it left open."""
        self._check_log()
        self.recover()
        self.catch_up()
        self.resolve()
        body = StartBody(
            node=self.signer.address,
            origin=self.log.origin,
            chain=self.chain.chain_id,
            anchor=self.anchors.address,
            software=software,
            started_at=int(time.time()),
        )
        self.database.write_now(lambda tx: self.log.append(tx, entry_of(self.log.size(tx), body)))

    def _check_log(self) -> None:
        """Refuse to go on with an older copy of the log: numbers would be signed a second time."""
        anchored = self.anchors.latest(self.signer.address, self.log.origin)
        if anchored is None:
            return

        def known(tx: Connection) -> bool:
            enough = self.log.size(tx) >= anchored.size
            return enough and self.log.root(tx, anchored.size) == anchored.root

        if not self.database.read(known):
            raise ConfigError(
                f"the chain holds {anchored.size} entries of this log that the database does not",
                hint="bring the newest database back, or begin a new log with a new key",
            )

    def recover(self) -> None:
        """End what ended processes left in flight, and ask the chain what it cannot tell."""
        ended = Succession(self.database, self.ledger, self.authorizations).end_dead()
        if ended:
            self.catch_up()
            self.outcomes.refunds([own for recovered in ended for own in recovered.refunds])
            self.resolve()

    def catch_up(self) -> None:
        """Follow what was sent and not decided (1), and note what was mined and not noted (6)."""
        self.chain.follow(self.signer)
        for doing, tx_hash in self.database.read(lambda tx: self.book.unnoted(tx, [*ACTIONS])):
            try:
                receipt = self.chain.receipt(tx_hash)
            except TransactionFailedError:  # another block now, in which it reverted
                self.book.fail(tx_hash)
                continue
            if receipt is not None:
                self.noted(doing, receipt)

    def resolve(self) -> None:
        """Ask the chain about payments and refunds whose outcome was not seen."""
        # Who is at it asks for all that share the database.
        with suppress(LockTakenError), self.database.exclusive("outcomes"):
            self.outcomes.resolve()

    def report(self, incident: str, subject: str, detail: str) -> None:
        """Put an incident into the log."""
        body = IncidentBody.of(incident, subject, detail, int(time.time()))
        self.database.write_now(lambda tx: self.log.append(tx, entry_of(self.log.size(tx), body)))

    def note(self, tx: Connection, doing: str, receipt: TxReceipt) -> tuple[Entry, ...]:
        """Note a transaction in the log (6); `doing` is the contract's function."""
        return self.notes.note(tx, doing, receipt)

    @cached_property
    def notes(self) -> Notes:
        """Who tells the log of transactions."""
        contracts = self.channels, self.anchors, self.bonds
        return Notes(self.log, self.book, *contracts, self.token.address)

    @cached_property
    def withdrawals(self) -> Withdrawals:
        """Who learns of withdrawals."""
        return Withdrawals(
            self.channels, self.ledger, self.database, self.log, head=self.chain.head
        )

    @cached_property
    def outcomes(self) -> Outcomes:
        """Who asks what became of payments."""
        return Outcomes(
            chain=self.chain,
            database=self.database,
            ledger=self.ledger,
            authorizations=self.authorizations,
            channels=self.channels,
            token=self.token,
            terms=self.terms,
            report=self.report,
            from_block=self.from_block,
            # What waits may still be mined: until then nobody can say how its refund ended.
            may_be_mined=lambda: any(ACTIONS.get(s.doing) == "refund" for s in self._line()),
        )

    @cached_property
    def claiming(self) -> Claiming:
        """Who claims in batches."""
        return Claiming(
            self.channels, self.signer, lambda receipt: self.noted("claim", receipt), self.report
        )

    def follow(self, *actions: str) -> None:
        """Catch up; refuse to send what would be another of `actions` before one is mined."""
        self.catch_up()
        waiting = [sent for sent in self._line() if ACTIONS.get(sent.doing) in actions]
        if waiting:
            first = waiting[0]
            raise SettlementError(
                f"{first.doing} 0x{first.hash.hex()} waits to be mined since "
                f"{int(time.time() - first.sent_at)} s"
            )

    def _line(self) -> Sequence[Sent]:
        return self.book.line(self.signer.address)

    def _claims(self) -> list[Claim]:
        return self.database.read(self.ledger.claims)

    def _chosen(self) -> list[Claim]:
        claims = self._claims()
        since, now = self._since(claims), int(time.time())
        return self.policy.choose(claims, since, gas_price=self._gas_price(), now=now)

    def _since(self, claims: list[Claim]) -> Mapping[str, int]:
        names, now = [claim.channel_id for claim in claims], int(time.time())
        return self.database.write_now(lambda tx: unclaimed(tx, names, now=now))

    def _claim(self, claims: list[Claim]) -> Claimed:
        if not claims:
            return Claimed()
        max_gas = self.chain.gas_limit() * self.policy.gas_percent // 100
        claimed = self.claiming.claim(claims, max_gas=max_gas)
        self.withdrawals.refresh([claim.channel_id for claim in claims])
        self._since(self._claims())  # what is sold from now on begins to wait now
        return claimed

    def _settle(self, whatever: bool) -> tuple[int, int]:
        receiver, token = self.terms.receiver, self.token.address
        claimed, settled = self.channels.receiver(receiver, token)
        amount = claimed - settled
        worth = whatever or amount >= self.policy.least(SETTLE_GAS, self._gas_price())
        if not amount or not worth:
            return 0, 0
        receipt = self.channels.settle(self.signer, receiver=receiver, token=token)
        self.noted("settle", receipt)
        return amount, receipt.gas_used

    def _gas_price(self) -> int:
        market = self.chain.market()
        return market.base_fee + market.tip

    def noted(self, doing: str, receipt: TxReceipt) -> None:
        """Note a mined transaction in the log (6), in a write of its own."""
        self.database.write_now(lambda tx: self.note(tx, doing, receipt))

    def _is_anchored(self, tx: Connection, size: int) -> bool:
        anchored = self.log.anchored_size(tx)
        if size <= anchored:
            return True
        last = parse_entry(self.log.entry_bytes(tx, size - 1, size)[0])
        return size == anchored + 1 and last.kind == ANCHOR
