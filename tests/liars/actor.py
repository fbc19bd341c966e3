"""An open node and its payers: what a lie is told to, and who looks into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.audit.chain_view import AuditTarget, ChainView
from inference.audit.model_standing import Terms
from inference.audit.reader import LogReader
from inference.audit.report import Report
from inference.audit_command import chain_view
from inference.auditor import Questions, audit
from inference.client import CHAT, NodeIdentity, PaidAnswer, Payer
from inference.node import Node
from inference.receipts import SignedReceipt, receipt_domain
from inference.remote import node_client
from inference.shown import Shown, disclosures
from registry.chain.dev_usd import mint
from registry.signing.signer import Signer

if TYPE_CHECKING:
    from tests.liars.stage import Stage

MODEL = "tiny"
CLASSIFIER = "judge"


def ask(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """Return a small chat request whose tokens depend on it alone."""
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 32,
        "temperature": 0,
        "determinism": "exact",
        **more,
    }


@dataclass
class Actor:
    """An open node: what its payers were sold, and how many calls they made."""

    stage: Stage
    node: Node
    url: str
    answers: list[PaidAnswer] = field(default_factory=list)
    calls: int = 0

    @property
    def address(self) -> str:
        return self.node.signer.address

    @property
    def identity(self) -> NodeIdentity:
        contracts = self.node.config.registry.contracts
        domain = receipt_domain(contracts.chain_id, contracts.audit_anchor)
        return NodeIdentity(self.address, domain)

    @property
    def target(self) -> AuditTarget:
        contracts = self.node.config.registry.contracts
        return AuditTarget(
            node=self.address,
            origin=self.node.log.origin,
            chain_id=contracts.chain_id,
            anchor=contracts.audit_anchor,
            registry=contracts.model_registry,
        )

    def wallet(self) -> Wallet:
        """Return a new payer with money."""
        return Wallet(self, _rich(self.stage))

    def note(self) -> str:
        """Return the checkpoint the node shows."""
        with node_client(self.url) as client:
            return LogReader(client).note()

    def audit(
        self,
        *given: SignedReceipt,
        known: Sequence[str] = (),
        terms: Terms | None = None,
        view: ChainView | None = None,
        replayed: Sequence[PaidAnswer] = (),
    ) -> Report:
        """Audit the node; calls `given` are looked for in the log, those `replayed` run again."""
        shown = [Shown(answer.signed, answer.request, answer.response) for answer in replayed]
        questions = Questions(
            terms=terms or Terms(),
            given=given,
            known=known,
            disclosures=disclosures(shown),
            replayer=self.stage.replayer if shown else None,
        )
        with node_client(self.url) as client:
            return audit(
                self.target, LogReader(client), view or chain_view(self.stage.workspace), questions
            )


@dataclass
class Wallet:
    """A payer of one node. Every call counts, also one that ends in an error.

    `receipts` are all that it was given.
    """

    actor: Actor
    signer: Signer
    receipts: list[SignedReceipt] = field(default_factory=list)

    def payer(self, **options: Any) -> Payer:
        """Return the product's client."""
        chain = self.actor.node.config.registry.chain
        return Payer(
            self.actor.url,
            signer=self.signer,
            rpc_url=self.actor.stage.devnet.rpc_url,
            network=f"eip155:{chain.chain_id}",
            node=self.actor.identity,
            **options,
        )

    def run(self, *steps: Callable[[Payer], Any], **options: Any) -> list[PaidAnswer]:
        """Take steps with one client; each is a function of it that makes one call."""

        async def go() -> list[PaidAnswer]:
            found = []
            async with self.payer(**options) as payer:
                try:
                    for step in steps:
                        self.actor.calls += 1
                        found.append(await step(payer))
                finally:
                    self.receipts += payer.passbook.receipts
            return found

        answers = asyncio.run(go())
        self.actor.answers += answers
        return answers

    def call(self, body: dict[str, Any] | None = None, route: str = CHAT, **options: Any) -> Any:
        """Make one call with a client of its own."""
        return self.run(calling(body, route), **options)[0]

    def stream(self, body: dict[str, Any] | None = None, **options: Any) -> Any:
        """Make one streamed call."""
        return self.run(streaming(body), **options)[0]


def calling(body: dict[str, Any] | None = None, route: str = CHAT) -> Callable[[Payer], Any]:
    """Return the step that makes a call."""
    return lambda payer: payer.call(route, body or ask())


def streaming(body: dict[str, Any] | None = None) -> Callable[[Payer], Any]:
    """Return the step that reads a stream to its end."""
    return lambda payer: payer.stream(CHAT, body or ask(), lambda _: None)


def _rich(stage: Stage) -> Signer:
    signer = Signer.random()
    token = stage.workspace.config.contracts.dev_usd or ""
    mint(stage.workspace.chain, stage.workspace.signer("deployer"), token, signer.address, 10**9)
    return signer
