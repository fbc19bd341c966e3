"""A node's till on a real chain, without models: what clients present to it, what it answers."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from inference.audit.anchor import AnchorContract
from inference.audit.entry import parse_entry
from inference.audit.log import AuditLog
from inference.claiming import ClaimPolicy
from inference.database import Database
from inference.payments.account import OnchainChannel
from inference.payments.authorizations import AuthorizationBook
from inference.payments.cashier import Cashier
from inference.payments.channels_contract import ChannelsContract
from inference.payments.ledger import ChannelLedger
from inference.payments.mover import Mover
from inference.payments.secured import Booked, Secured
from inference.payments.token_contract import TokenContract
from inference.payments.wallet_contract import Wallets
from inference.payments.x402 import PaymentPayload, decode_header
from inference.sent_book import SentBook
from inference.settlement import Settlement
from registry.chain.block import Block
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference.payments.payer import Payer, make_terms

FUNDER = Signer.anvil(0, chain_id=31337)
URL = "http://node/v1/chat"
NOWHERE = Chain("http://127.0.0.1:9", chain_id=31337)


class Channels(ChannelsContract):
    """Stops answering after `reads` more questions."""

    reads = 1_000

    def state(self, channel_id: str, *, now: int, block: Block | None = None) -> OnchainChannel:
        self.reads -= 1
        if self.reads < 0:
            return ChannelsContract(NOWHERE, self.address).state(channel_id, now=now)
        return super().state(channel_id, now=now, block=block)


@dataclass
class Shop:
    chain: Chain
    deployment: Deployment
    database: Database
    log: AuditLog = field(default_factory=lambda: AuditLog("example.org/log"))

    def __post_init__(self) -> None:
        assert self.deployment.dev_usd is not None
        chain, address = self.chain, self.deployment.payment_channels
        self.token = TokenContract(chain, self.deployment.dev_usd)
        terms = make_terms(token=self.token.token(), receiver_authorizer=FUNDER.address)
        self.channels = Channels(chain, address)
        ledger, book = ChannelLedger(), AuthorizationBook()
        self.sent = SentBook(self.database)
        wallets = Wallets(chain)
        self.mover = Mover(self.database, book, self.channels, self.token, terms, FUNDER, wallets)
        self.cashier = Cashier(self.database, ledger, book, self.mover, terms)
        self.settlement = Settlement(
            chain=chain,
            database=self.database,
            book=self.sent,
            log=self.log,
            ledger=ledger,
            authorizations=book,
            channels=ChannelsContract(chain, address),
            token=self.token,
            anchors=AnchorContract(chain, self.deployment.audit_anchor),
            terms=terms,
            signer=FUNDER,
            policy=ClaimPolicy(),
        )

    def payer(self) -> Payer:
        """A fresh key with a million atomic units and a channel nobody used."""
        payer = Payer(self.cashier.terms, Signer.random(), secrets.token_bytes(32))
        mint = self.chain.contract("DevUSD", self.token.address).functions.mint
        self.chain.send(FUNDER, mint(payer.key.address, 10**6))
        return payer

    async def reserve(
        self,
        payload: dict[str, Any],
        quote: int,
        *,
        least: int = 1,
        stream: bool = False,
        binding: bytes = b"",
    ) -> Secured:
        scheme = "exact" if "authorization" in payload else "batch-settlement"
        offers = self.cashier.offers(URL, quote)
        payment = pay(offers, scheme, payload)
        return await self.cashier.reserve(
            payment, offers, least=least, stream=stream, binding=binding
        )

    async def book(self, secured: Secured, charged: int, **more: Any) -> Booked:
        return await self.database.write(lambda tx: self.cashier.book(tx, secured, charged, **more))

    def answer(self, booked: Booked) -> dict[str, Any]:
        return decode_header(booked.response({}))

    def entries(self) -> list[dict[str, Any]]:
        """What the log says, oldest first."""

        def read(tx: Any) -> list[bytes]:
            return list(self.log.entry_bytes(tx, 0, self.log.size(tx)))

        return [parse_entry(entry).body for entry in self.database.read(read)]


def pay(offers: Any, scheme: str, payload: dict[str, Any]) -> PaymentPayload:
    accepted = next(entry for entry in offers.accepts if entry.scheme == scheme)
    return PaymentPayload(accepted.to_json(), payload, {}, {}, b"")


def deposit(payer: Payer, ceiling: int, amount: int) -> dict[str, Any]:
    paid = payer.deposit_json(amount, valid_before=int(time.time()) + 300)
    return payer.payload("deposit", ceiling, deposit=paid)


def exactly(authorization: Any) -> dict[str, Any]:
    return {
        "signature": f"0x{authorization.signature.hex()}",
        "authorization": {
            "from": authorization.payer,
            "to": authorization.to,
            "value": str(authorization.value),
            "validAfter": str(authorization.valid_after),
            "validBefore": str(authorization.valid_before),
            "nonce": f"0x{authorization.nonce.hex()}",
        },
    }
