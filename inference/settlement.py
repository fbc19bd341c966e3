"""Story d, first half: money is settled, and the log's head is anchored.

1. read the channels again; those with a pending withdrawal come first
2. claim their vouchers on chain
3. settle: move what was claimed to the receiver
4. note each transaction in the log
5. checkpoint: sign the log's head
6. anchor it on chain

Every step may be repeated: a claim that was booked is a no-op for the contract, settling nothing
moves nothing, and a head that is anchored is not anchored again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from inference.audit.anchor import AnchorContract
from inference.audit.bodies import (
    AnchorBody,
    IncidentBody,
    SettlementBody,
    StartBody,
    entry_of,
)
from inference.audit.bodies import (
    Claim as ClaimedRow,
)
from inference.audit.checkpoint import SignedCheckpoint, sign, verify
from inference.audit.entry import ANCHOR, parse_entry
from inference.audit.log import AuditLog
from inference.database import Database
from inference.payments.authorizations import AuthorizationBook, Unsettled
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger, Claim
from inference.payments.reservation import Reservation
from inference.payments.token_contract import TokenContract
from inference.payments.verification import Terms
from inference.succession import Succession
from registry.chain.block import TxReceipt
from registry.chain.connection import Chain
from registry.errors import TransactionFailedError
from registry.signing.signer import Signer

# Seconds after which a refund that is still open was not seen to end: the chain's own wait, twice.
_OUTCOME_S: Final = 300
# Held by the node that sends for all channels: two would claim the same, and take one nonce.
_ALONE: Final = "settlement"
# A hundred rows take 2.1 M gas (x402's canonical build), far below a block's limit.
MAX_CLAIMS: Final = 100


@dataclass(frozen=True)
class Settled:
    """What one tick did; amounts in atomic units."""

    channels: int
    claimed: int
    settled: int
    gas_used: int

    def to_json(self) -> dict[str, object]:
        """Return it as JSON; amounts as digit strings."""
        return {
            "channels": self.channels,
            "claimed": str(self.claimed),
            "settled": str(self.settled),
            "gas_used": self.gas_used,
        }


@dataclass(frozen=True)
class AnchoredHead:
    """A signed head, and the transaction that anchored it; None when it was anchored before."""

    signed: SignedCheckpoint
    receipt: TxReceipt | None

    def to_json(self) -> dict[str, object]:
        """Return it as JSON."""
        head = self.signed.checkpoint
        return {
            "size": head.size,
            "root": "0x" + head.root.hex(),
            "transaction": self.receipt.text if self.receipt else "",
            "gas_used": self.receipt.gas_used if self.receipt else 0,
        }


@dataclass(frozen=True)
class Settlement:
    """Settles for one node. Every method waits for the chain: call it from a thread."""

    chain: Chain
    database: Database
    log: AuditLog
    ledger: ChannelLedger
    authorizations: AuthorizationBook
    channels: ChannelsContract
    token: TokenContract
    anchors: AnchorContract
    terms: Terms
    signer: Signer
    from_block: int = 0

    def tick(self) -> Settled:
        """Run steps 1 to 4, one node at a time: `LockTakenError` while another is at it.

        Raises `ChainError`; what was done before it stays done.
        """
        with self.database.exclusive(_ALONE):
            settled = self._claim_and_settle()
        self.resolve()
        return settled

    def _claim_and_settle(self) -> Settled:
        self._mirror([claim.channel_id for claim in self._claims()])  # 1
        claims = self._claims()
        gas = sum(
            self._claim_each(claims[first : first + MAX_CLAIMS])  # 2
            for first in range(0, len(claims), MAX_CLAIMS)
        )
        amount, settle_gas = self._settle()  # 3
        claimed = sum(claim.total - claim.claimed for claim in claims)
        return Settled(len(claims), claimed, amount, gas + settle_gas)

    def checkpoint(self) -> SignedCheckpoint:
        """Sign the log's head as it is now (5) and keep it."""
        domain, node = self.anchors.domain, self.signer.address

        def kept(tx: Connection) -> str | None:
            return self.log.note(tx, self.log.size(tx))

        if note := self.database.read(kept):
            return verify(note, node, domain, origin=self.log.origin)

        def keep(tx: Connection) -> SignedCheckpoint:
            signed = sign(self.log.checkpoint(tx), self.signer, domain)
            self.log.save_checkpoint(tx, signed)
            return signed

        return self.database.write_now(keep)

    def anchor(self) -> AnchoredHead:
        """Sign the head and write it on chain (6), unless nothing but its own note is new."""
        with self.database.exclusive(_ALONE):
            return self._anchor()

    def _anchor(self) -> AnchoredHead:
        signed = self.checkpoint()
        head = signed.checkpoint
        if self.database.read(lambda tx: self._is_anchored(tx, head.size)):
            return AnchoredHead(signed, None)
        receipt = self.anchors.anchor(self.signer, signed)
        body = AnchorBody(head.size, head.root, receipt.hash, receipt.block, receipt.gas_used)

        def note(tx: Connection) -> None:
            self.log.mark_anchored(tx, head.size, receipt.text)
            self.log.append(tx, entry_of(self.log.size(tx), body))

        self.database.write_now(note)
        return AnchoredHead(signed, receipt)

    def start(self, software: str) -> None:
        """Open the log for a node that begins to sell, and settle what it left open."""
        self.recover()
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

    def recover(self) -> None:
        """End what ended processes left in flight, and ask the chain what it cannot tell."""
        ended = Succession(self.database, self.ledger, self.authorizations).end_dead()
        for reservation in (refund for recovered in ended for refund in recovered.refunds):
            self._resolve_refund(reservation)
        if ended:
            self.resolve()

    def resolve(self) -> None:
        """Ask the chain about payments and refunds whose outcome was not seen."""
        before = int(time.time()) - _OUTCOME_S
        with self.database.exclusive("outcomes"):
            for unsettled in self.database.read(self.authorizations.unsettled):
                self._resolve(unsettled)
            stale = self.database.read(lambda tx: self.ledger.stale_refunds(tx, before=before))
            for refund in stale:
                self._resolve_refund(refund)

    def report(self, incident: str, subject: str, detail: str) -> None:
        """Put an incident into the log."""
        body = IncidentBody.of(incident, subject, detail, int(time.time()))
        self.database.write_now(lambda tx: self.log.append(tx, entry_of(self.log.size(tx), body)))

    def note(self, tx: Connection, action: str, receipt: TxReceipt, amount: int = 0) -> None:
        """Note a transaction in the log (4)."""
        self._note(tx, action, receipt, amount, ())

    def note_claims(self, tx: Connection, receipt: TxReceipt, claims: Sequence[Claim]) -> None:
        """Note a claim's rows in the log (4)."""
        rows = tuple(ClaimedRow(bytes.fromhex(c.channel_id[2:]), c.total) for c in claims)
        self._note(tx, "claim", receipt, 0, rows)

    def _note(
        self,
        tx: Connection,
        action: str,
        receipt: TxReceipt,
        amount: int,
        claims: tuple[ClaimedRow, ...],
    ) -> None:
        body = SettlementBody(
            action=action,
            token=self.token.address,
            amount=amount,
            claims=claims,
            transaction=receipt.hash,
            block=receipt.block,
            gas_used=receipt.gas_used,
        )
        self.log.append(tx, entry_of(self.log.size(tx), body))

    def _claims(self) -> list[Claim]:
        return self.database.read(self.ledger.claims)

    def _claim_each(self, claims: Sequence[Claim]) -> int:
        """Claim a batch; a row the contract refuses stands alone and does not hold up others."""
        try:
            return self._claim(claims)
        except TransactionFailedError as error:
            if len(claims) == 1:
                self.report("claim refused", claims[0].channel_id, error.message)
                return 0
        half = len(claims) // 2
        return self._claim_each(claims[:half]) + self._claim_each(claims[half:])

    def _claim(self, claims: Sequence[Claim]) -> int:
        receipt = self.channels.claim(self.signer, self.signer, claims)
        self.database.write_now(lambda tx: self.note_claims(tx, receipt, claims))
        self._mirror([claim.channel_id for claim in claims])
        return receipt.gas_used

    def _settle(self) -> tuple[int, int]:
        receiver, token = self.terms.receiver, self.token.address
        claimed, settled = self.channels.receiver(receiver, token)
        if claimed == settled:
            return 0, 0
        receipt = self.channels.settle(self.signer, receiver=receiver, token=token)
        amount = claimed - settled
        self.database.write_now(lambda tx: self.note(tx, "settle", receipt, amount))
        return amount, receipt.gas_used

    def _mirror(self, channel_ids: Sequence[str]) -> None:
        now = int(time.time())
        states = {name: self.channels.state(name, now=now) for name in channel_ids}

        def store(tx: Connection) -> None:
            for name, state in states.items():
                self.ledger.mirror(tx, name, state)

        self.database.write_now(store)

    def _is_anchored(self, tx: Connection, size: int) -> bool:
        anchored = self.log.anchored_size(tx)
        if size <= anchored:
            return True
        last = parse_entry(self.log.entry_bytes(tx, size - 1, size)[0])
        return size == anchored + 1 and last.kind == ANCHOR

    def _resolve(self, unsettled: Unsettled) -> None:
        reservation = unsettled.reservation
        used_by = self.token.settlement(
            reservation.payer, bytes.fromhex(reservation.nonce[2:]), from_block=self.from_block
        )
        if used_by is not None:
            self.database.write_now(
                lambda tx: self.authorizations.settled(tx, reservation, used_by)
            )
            if reservation.purpose == "exact":
                detail = f"{reservation.amount} were paid in 0x{used_by.hex()} and not answered"
                self.report("paid without an answer", reservation.payer, detail)
        elif self.chain.head().timestamp > unsettled.valid_before:
            self.database.write_now(lambda tx: self.authorizations.release(tx, reservation))

    def _resolve_refund(self, reservation: Reservation) -> None:
        state = self.channels.state(reservation.channel_id, now=int(time.time()))

        def end(tx: Connection) -> None:
            self.ledger.finish_refund(tx, reservation, state)

        self.database.write_now(end)
