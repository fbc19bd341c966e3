"""What the demo buys: a chat answer, a streamed one, and a classification by `exact`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.markup import escape

from inference.client import CHAT, CLASSIFY, Confirm, NodeIdentity, PaidAnswer, Payer
from inference.config import load
from inference.demo.node_process import NodeProcess
from inference.receipts import receipt_domain
from registry.terminal import Terminal

QUESTION: Final = "What is the capital of France?"
STREAMED: Final = "Name three primary colours."
REVIEWS: Final = (
    "A warm, funny film with a great cast.",
    "Two hours of my life that I will not get back.",
)


@dataclass(frozen=True)
class Purchase:
    """One paid call: what was asked, what came back in words, and the answer with its receipt."""

    asked: str
    said: str
    answer: PaidAnswer

    def to_json(self) -> dict[str, object]:
        """Return what the summary shows."""
        receipt = self.answer.signed.receipt
        return {
            "asked": self.asked,
            "said": self.said,
            "scheme": receipt.payment.scheme,
            "quote": str(receipt.payment.quote),
            "charged": str(receipt.payment.charged),
            "receipt": receipt.id,
            "seq": receipt.seq,
            "model_id": "0x" + receipt.model.model_id.hex(),
            "device": receipt.runtime.device,
            "transaction": str(self.answer.settlement.get("transaction", "")),
        }


async def buy(
    config: Path, node: NodeProcess, chat: str, classifier: str, terminal: Terminal
) -> list[Purchase]:
    """Make the three calls with the official client; every receipt is checked on the way."""

    def confirm(amount: int) -> bool:
        terminal.say(f"   [dim]the client opens a channel with {amount} units of the token[/]")
        return True

    body = {"model": chat, "temperature": 0}
    async with payer(config, node, confirm=confirm) as channel:
        ask = body | {"messages": _ask(QUESTION), "max_tokens": 24}
        first = await channel.call(CHAT, ask)
        terminal.say(f"   {QUESTION} [green]{escape(first.text)}[/]  — {first.charged} units")
        ask = body | {"messages": _ask(STREAMED), "max_tokens": 40}
        second = await channel.stream(CHAT, ask, lambda _: None)
        terminal.say(
            f"   {STREAMED} [green]{escape(second.text)}[/]  — {second.charged} units, streamed"
        )
    async with payer(config, node, scheme="exact") as wallet:
        third = await wallet.call(CLASSIFY, {"model": classifier, "input": list(REVIEWS)})
    labels = ", ".join(item["label"] for item in third.body["data"])
    terminal.say(f"   two reviews: [green]{labels}[/]  — {third.charged} units, one exact transfer")
    return [
        Purchase(QUESTION, first.text, first),
        Purchase(STREAMED, second.text, second),
        Purchase(" / ".join(REVIEWS), labels, third),
    ]


def payer(
    config: Path,
    node: NodeProcess,
    *,
    scheme: str = "batch-settlement",
    confirm: Confirm = lambda _: True,
    coupon: str = "",
) -> Payer:
    """Return the payer of the settings, for one node."""
    settings = load(config).registry
    contracts = settings.contracts
    return Payer(
        node.url,
        signer=settings.keys.signer("payer", chain_id=contracts.chain_id),
        rpc_url=settings.chain.rpc_url,
        network=f"eip155:{contracts.chain_id}",
        node=NodeIdentity(node.address, receipt_domain(contracts.chain_id, contracts.audit_anchor)),
        scheme=scheme,
        confirm=confirm,
        coupon=coupon,
    )


def _ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
