"""A node reduced to what an auditor sees: a real log in a real database behind real HTTP.

It is honest unless a test changes what it writes or shows. The endpoints are those of
`inference.audit.reader`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Response
from fastapi.testclient import TestClient

from inference.audit.anchor import AnchorContract
from inference.audit.bodies import Claim, SettlementBody, entry_of
from inference.audit.chain_view import AuditTarget, ChannelState, OnchainView
from inference.audit.checkpoint import SignedCheckpoint, sign
from inference.audit.entry import Entry
from inference.audit.log import AuditLog
from inference.audit.note_key import bind
from inference.audit.reader import LogReader
from inference.audit.report import Report
from inference.auditor import Questions, audit
from inference.database import Database
from inference.payments.channels_contract import ChannelsContract
from inference.payments.token_contract import TokenContract
from inference.receipt_format import BlockFacts, ReceiptFacts
from inference.receipts import Salts, SignedReceipt, issue, receipt_domain, salted_hash
from registry.attestation import INTEGRITY
from registry.chain.attestations import AttestationBook
from registry.chain.block import Block
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.chain.model_registry import ModelRegistry
from registry.record import Kind, record_id
from registry.signing.signer import Signer
from tests.inference.receipt_samples import COST, QUOTE, REQUEST, SALTS, call

FUNDER = Signer.anvil(0, chain_id=31337)
ATTESTER = Signer.anvil(1, chain_id=31337)
ORIGIN = "example.org/log"


@dataclass(frozen=True)
class Model:
    """A model on chain, as receipts name it."""

    model_id: bytes
    manifest_digest: bytes
    block: Block


@dataclass(frozen=True)
class World:
    """The chain all audited nodes of a test module live on."""

    chain: Chain
    deployment: Deployment

    @property
    def records(self) -> ModelRegistry:
        return ModelRegistry(self.chain, self.deployment.model_registry)

    @property
    def book(self) -> AttestationBook:
        return AttestationBook(self.chain, self.deployment.attestations)

    @property
    def anchors(self) -> AnchorContract:
        return AnchorContract(self.chain, self.deployment.audit_anchor)

    @property
    def channels(self) -> ChannelsContract:
        return ChannelsContract(self.chain, self.deployment.payment_channels)

    @property
    def token(self) -> TokenContract:
        assert self.deployment.dev_usd is not None
        return TokenContract(self.chain, self.deployment.dev_usd)

    def register(self, digest: bytes, *, attest: bool = True) -> Model:
        """Register a model, have it attested, and name the block after both."""
        self.records.register(FUNDER, Kind.MODEL, digest, [])
        model_id = record_id(FUNDER.address, digest)
        if attest:
            self.book.attest(ATTESTER, model_id, INTEGRITY, 10_000, int(time.time()) + 10**6)
        return Model(model_id, digest, self.chain.head())

    def view(self) -> OnchainView:
        def channel(channel_id: bytes) -> ChannelState:
            state = self.channels.state("0x" + channel_id.hex(), now=0)
            return ChannelState(state.balance, state.total_claimed)

        return OnchainView(
            chain=self.chain,
            anchors=self.anchors,
            records=self.records,
            book=self.book,
            channel_state=channel,
            used=lambda asset, payer, nonce: TokenContract(self.chain, asset).is_used(payer, nonce),
            from_block=self.deployment.from_block,
        )


@dataclass
class AuditedNode:
    """One node. `show` replaces answers: path → function of the honest answer."""

    world: World
    model: Model
    database: Database
    key: Signer
    origin: str = ORIGIN
    show: dict[str, Callable[..., Any]] = field(default_factory=dict)
    owed: dict[bytes, int] = field(default_factory=dict)
    count: int = 0
    salts: dict[bytes, Salts] = field(default_factory=dict)

    @classmethod
    def open(
        cls, world: World, model: Model, folder: Path, key: Signer | None = None
    ) -> AuditedNode:
        key = key or Signer.random()
        database = Database(
            f"sqlite:///{folder / f'{time.monotonic_ns()}.db'}",
            chain_id=31337,
            channels=world.deployment.payment_channels,
            node=key.address,
        )
        return cls(world, model, database, key)

    @property
    def log(self) -> AuditLog:
        return AuditLog(self.origin)

    @property
    def target(self) -> AuditTarget:
        return AuditTarget(
            node=self.key.address,
            origin=self.origin,
            chain_id=31337,
            anchor=self.world.deployment.audit_anchor,
            registry=self.world.deployment.model_registry,
        )

    def facts(self, **payment: Any) -> ReceiptFacts:
        """Return what an honest node would state of one more call."""
        self.count += 1
        facts = call(**payment)
        channel, charged = facts.payment.channel, facts.payment.charged
        if any(channel):
            cumulative = self.owed.get(channel, 0) + charged
            if "cumulative" not in payment:
                facts = replace(facts, payment=replace(facts.payment, cumulative=cumulative))
        block = BlockFacts(self.model.block.number, self.model.block.hash)
        model = replace(
            facts.model,
            registry=self.world.deployment.model_registry,
            model_id=self.model.model_id,
            manifest_digest=self.model.manifest_digest,
            block=block,
        )
        asset = self.world.deployment.dev_usd
        assert asset is not None
        # No two calls have the same salts.
        salts = Salts(self.count.to_bytes(32), SALTS.response)
        request = replace(facts.request, hash=salted_hash(salts.request, REQUEST))
        self.salts[request.hash] = salts
        return replace(
            facts,
            request=request,
            id=f"rcpt_{self.count:016d}",
            served_at=int(time.time()),
            model=model,
            payment=replace(facts.payment, asset=asset)
            if "asset" not in payment
            else facts.payment,
        )

    def sell(
        self, facts: ReceiptFacts | None = None, *, key: Signer | None = None
    ) -> SignedReceipt:
        """Sign a receipt for the next place in the log and append it."""
        facts = facts or self.facts()
        at = self.database.read(self.log.next_position)
        domain = receipt_domain(31337, self.world.deployment.audit_anchor)
        salts = self.salts.get(facts.request.hash, SALTS)
        signed = issue(key or self.key, domain, facts, seq=at.seq, prev=at.prev, salts=salts)
        self.write(signed.entry())
        if any(facts.payment.channel):
            self.owed[facts.payment.channel] = facts.payment.cumulative
        return signed

    def write(self, entry: Entry) -> None:
        self.database.write_now(lambda tx: self.log.append(tx, entry))

    def claim(self, channel: bytes, total: int) -> None:
        """Note a claim in the log."""
        seq = self.database.read(self.log.size)
        asset = str(self.world.deployment.dev_usd)
        body = SettlementBody("claim", asset, 0, (Claim(channel, total),), bytes(32), 1, 1)
        self.write(entry_of(seq, body))

    def checkpoint(self) -> SignedCheckpoint:
        head = self.database.read(self.log.checkpoint)
        return sign(head, self.key, self.world.anchors.domain)

    def anchor(self) -> SignedCheckpoint:
        signed = self.checkpoint()
        self.world.anchors.anchor(FUNDER, signed)
        return signed

    def audit(self, asked: Questions | None = None, **target: Any) -> Report:
        """Audit this node over HTTP; keywords change what the auditor expects."""
        with TestClient(self.app(), base_url="http://node.test") as client:
            wanted = replace(self.target, **target)
            return audit(wanted, LogReader(client), self.world.view(), asked)

    def app(self) -> FastAPI:
        """Return the public endpoints of the log."""
        app = FastAPI()

        @app.get("/v1/log")
        def identity() -> Any:
            target = self.target
            vkey, signature = bind(self.key, self.origin, self.world.anchors.domain)
            honest = {
                "format": "weightproof/log@2",
                "origin": target.origin,
                "node": target.node,
                "chain": target.chain_id,
                "anchor": target.anchor,
                "registry": target.registry,
                "size": self.database.read(self.log.size),
                "vkey": vkey,
                "vkeySignature": "0x" + signature.hex(),
            }
            return self._shown("identity", honest)

        @app.get("/v1/log/checkpoint")
        def checkpoint() -> Any:
            note = self._shown("checkpoint", self.checkpoint().note)
            return Response(note, media_type="text/plain")

        @app.get("/v1/log/entries")
        def entries(start: int, end: int) -> Any:
            page = self.database.read(lambda tx: self.log.entry_bytes(tx, start, end))
            texts = [data.decode() for data in page]
            shown = self._shown("entries", texts, start)
            return self._shown("page", {"start": start, "entries": shown})

        @app.get("/v1/log/proof/inclusion")
        def inclusion(seq: int, size: int) -> Any:
            proof = self.database.read(lambda tx: self.log.inclusion_proof(tx, seq, size))
            return self._shown("inclusion", {"proof": ["0x" + item.hex() for item in proof]})

        @app.get("/v1/log/proof/consistency")
        def consistency(old: int, new: int) -> Any:
            proof = self.database.read(lambda tx: self.log.consistency_proof(tx, old, new))
            return self._shown("consistency", {"proof": ["0x" + item.hex() for item in proof]})

        @app.get("/v1/channels/{channel}")
        def ledger(channel: str) -> Any:
            owed = self.owed.get(bytes.fromhex(channel[2:]))
            if owed is None:
                raise HTTPException(404)
            state = {
                "channelId": channel,
                "cumulative": str(owed),
                "signedMax": str(owed + QUOTE),
                "balance": str(10 * (owed + QUOTE)),
                "totalClaimed": "0",
                "size": self.database.read(self.log.size),
            }
            return self._shown("ledger", state)

        return app

    def _shown(self, what: str, honest: Any, *more: Any) -> Any:
        change = self.show.get(what)
        return honest if change is None else change(honest, *more)


__all__ = ["ATTESTER", "COST", "FUNDER", "ORIGIN", "QUOTE", "AuditedNode", "Model", "World"]
