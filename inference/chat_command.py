"""`weightproof chat`: one question, paid for."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import httpx
import typer

from inference.audit.reader import BadAnswerError, LogReader
from inference.client import CHAT, NodeIdentity, PaidAnswer, Payer, sent_bytes
from inference.config import NodeConfig
from inference.errors import NodeError, PaymentRefusedError, UnavailableError
from inference.receipts import receipt_domain
from inference.remote import first_model, models, node_client
from inference.shown import Shown, save_shown
from registry.chain.dev_usd import ONE
from registry.config import checked_address
from registry.errors import ConfigError
from registry.terminal import Terminal


@dataclass(frozen=True)
class Ask:
    """What was asked on the command line. `address` is the node's key, its own word when empty.

    `save` is the file for the receipt; request and answer are written beside it.
    """

    prompt: str
    model: str
    max_tokens: int
    temperature: float
    stream: bool
    scheme: str
    yes: bool
    key: str
    address: str = ""
    save: Path | None = None


async def ask(question: Ask, url: str, config: NodeConfig, terminal: Terminal) -> PaidAnswer:
    """Ask, pay and check; a person sees the answer as it comes.

    A call that was refused or failed after it was paid has a receipt too, and it is saved as well.
    """
    if question.save is not None:
        _check_target(question.save)
    if question.scheme not in ("batch-settlement", "exact"):
        raise ConfigError(f"no scheme {question.scheme!r:.40}", hint="batch-settlement or exact")
    with node_client(url) as client:
        node = _node(client, url)
        if question.address:
            node = checked_address(question.address, "--address")
        model = _model(client, question.model)
    contracts = config.registry.contracts
    chain_id = contracts.chain_id
    body: dict[str, object] = {
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
        try:
            answer = await _answered(payer, body, question, terminal)
        except NodeError:
            for signed in payer.passbook.receipts:
                _save(question, Shown(signed, sent_bytes(body, stream=question.stream)))
            raise
    _save(question, Shown(answer.signed, answer.request, answer.response))
    return answer


async def _answered(
    payer: Payer, body: dict[str, object], question: Ask, terminal: Terminal
) -> PaidAnswer:
    if question.stream:
        return await payer.stream(CHAT, body, terminal.write)
    answer = await payer.call(CHAT, body)
    terminal.write(answer.text)
    return answer


def _save(question: Ask, shown: Shown) -> None:
    if question.save is not None:
        save_shown(question.save, shown)


def _check_target(path: Path) -> None:
    """Refuse, before anything is paid, a name that the receipt cannot be written to."""
    if path.suffix in (".request", ".response"):
        text = f"{path}: the {path.suffix[1:]} is kept under this name"
        raise ConfigError(text, hint="such as paid.json")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"cannot write {path}", hint="name a file in a folder that is there")


def show(answer: PaidAnswer, terminal: Terminal) -> None:
    """Print what an answer cost, below the answer; or all of it as one object."""
    if terminal.as_json:
        bundle = answer.signed.bundle()
        terminal.result({"text": answer.text, "charged": str(answer.charged), "receipt": bundle})
        return
    receipt = answer.signed.receipt
    terminal.write(
        f"\n{receipt.tokens.input} + {receipt.tokens.output} tokens cost "
        f"{answer.charged / ONE:.6f} · receipt {receipt.id} holds\n"
    )


def _node(client: httpx.Client, url: str) -> str:
    try:
        return LogReader(client).identity().node
    except BadAnswerError as error:
        raise UnavailableError(
            f"{url} is not a node of ours: {error.message}", hint="is the address right?"
        ) from error


def _model(client: httpx.Client, wanted: str) -> str:
    if not wanted:
        return first_model(client, "chat")
    sold = models(client)
    names = [str(model["id"]) for model in sold]
    ids = {str(model.get("weightproof", {}).get("model_id")) for model in sold}
    if wanted not in names and wanted not in ids:
        raise ConfigError(
            f"the node sells no model {wanted!r:.80}", hint=f"it sells: {', '.join(names)}"
        )
    return wanted


def _confirm(amount: int, terminal: Terminal) -> bool:
    refusal = PaymentRefusedError(
        "deposit_unconfirmed",
        f"a deposit of {amount / ONE:.6f} is needed to open or top up the channel, and nobody "
        "confirmed it; nothing was paid",
        hint="give --yes to allow it",
    )
    if terminal.as_json:
        raise refusal
    # asyncio turns Ctrl-C into a cancellation, which would wait until the question is answered.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(
            f"Deposit {amount / ONE:.6f} into a channel with this node? What is left can be "
            "refunded.",
            default=True,
            err=True,
        )
    except typer.Abort:
        raise refusal from None
    finally:
        signal.signal(signal.SIGINT, before)
