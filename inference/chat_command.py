"""`weightproof chat`: one question, paid for."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from inference.audit.reader import LogReader
from inference.client import CHAT, NodeIdentity, PaidAnswer, Payer
from inference.config import NodeConfig
from inference.errors import RequestError
from inference.receipts import receipt_domain
from inference.remote import first_model, node_client
from registry.chain.dev_usd import ONE
from registry.errors import ConfigError
from registry.terminal import Terminal


@dataclass(frozen=True)
class Ask:
    """What was asked on the command line."""

    prompt: str
    model: str
    max_tokens: int
    temperature: float
    stream: bool
    scheme: str
    yes: bool
    key: str


async def ask(question: Ask, url: str, config: NodeConfig, terminal: Terminal) -> PaidAnswer:
    """Ask, pay and check; a person sees the answer as it comes."""
    if question.scheme not in ("batch-settlement", "exact"):
        raise ConfigError(f"no scheme {question.scheme!r:.40}", hint="batch-settlement or exact")
    with node_client(url) as client:
        model = question.model or first_model(client, "chat")
        node = LogReader(client).identity().node
    contracts = config.registry.contracts
    chain_id = contracts.chain_id
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question.prompt}],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
    }
    async with Payer(
        url,
        signer=config.registry.keys.signer(question.key, chain_id=chain_id),
        rpc_url=config.registry.chain.rpc_url,
        network=f"eip155:{chain_id}",
        node=NodeIdentity(node, receipt_domain(chain_id, contracts.audit_anchor)),
        scheme=question.scheme,
        confirm=lambda amount: question.yes or _confirm(amount, terminal),
    ) as payer:
        if question.stream:
            return await payer.stream(CHAT, body, lambda text: _show(text, terminal))
        answer = await payer.call(CHAT, body)
        terminal.say(answer.text)
        return answer


def _confirm(amount: int, terminal: Terminal) -> bool:
    if terminal.as_json:
        raise RequestError(
            f"a deposit of {amount / ONE:.6f} is needed to open or top up the channel",
            hint="give --yes to allow it",
        )
    return typer.confirm(
        f"Deposit {amount / ONE:.6f} into a channel with this node? What is left can be refunded.",
        default=True,
        err=True,
    )


def _show(text: str, terminal: Terminal) -> None:
    if not terminal.as_json:
        terminal.out.print(text, end="", markup=False)
