"""The demo: the main job, end to end, on a devnet of its own. Nothing in it is pretended.

 1. start a chain, deploy the contracts
 2. prepare SmolLM2-135M-Instruct as bf16 safetensors
 3. train a classifier on real reviews; register dataset, run and model
 4. register SmolLM2
 5. a second key verifies and attests both models
 6. start the node, which verifies and loads them
 7. pay for a chat answer, a streamed one, and a classification
 8. claim and settle
 9. anchor the log's head
10. audit everything from outside, and replay the chat answers
11. refused: a model with one flipped bit, and a call to a revoked model
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from inference.audit_command import run_audit
from inference.audit_report import show_checks
from inference.config import load
from inference.demo.models import SMOLLM2_STEPS, prepare_smollm2
from inference.demo.node_process import NodeProcess
from inference.demo.purchases import Purchase, buy
from inference.demo.refusals import flip_a_bit, sell_revoked
from inference.demo.summary import Summary
from inference.demo.training import NAME as CLASSIFIER
from inference.demo.training import register_folder, train_and_register
from inference.office import Office
from inference.shown import Shown
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import add_model, prepare_devnet
from registry.errors import ConfigError
from registry.register import Registration
from registry.terminal import Terminal
from registry.workspace import Workspace, unattested

CHAT_MODEL: Final = "smollm2-135m-instruct"
# Atomic units, a millionth of a dollar each.
CHAT_PRICE: Final = {"per_call": 100, "input_per_million": 150_000, "output_per_million": 600_000}
CLASSIFY_PRICE: Final = {"per_call": 50, "input_per_million": 20_000, "output_per_million": 0}
_YEAR_S: Final = 365 * 24 * 3600
_REPORT: Final = "report.json"


def tell(folder: Path, terminal: Terminal) -> Summary:
    """Run the demo in `folder`; models are kept beside it for the next time."""
    summary, started = Summary(), time.monotonic()
    _clear(folder)
    with Devnet.start() as net:
        path, _ = prepare_devnet(Chain(net.rpc_url), folder, net.rpc_url)
        workspace = Workspace.open(registry_config(path, read_file(path)))
        terminal.say(f"[bold] 1[/] a chain on {net.rpc_url}, contracts deployed")
        smollm2 = _prepare(folder.parent / "models" / CHAT_MODEL, terminal)
        trained = train_and_register(folder, workspace, terminal)
        summary.add_training(trained)
        gain = f"{trained.metrics['accuracy_before']} → {trained.metrics['accuracy']}"
        terminal.say(f"[bold] 3[/] trained and registered {CLASSIFIER}: accuracy {gain}")
        chat = register_folder(smollm2, CHAT_MODEL, "chat", (), {}, workspace, terminal)
        summary.add_record(CHAT_MODEL, chat)
        terminal.say(f"[bold] 4[/] registered {CHAT_MODEL}: {chat.cid}")
        _attest(workspace, {CHAT_MODEL: chat, CLASSIFIER: trained.model}, summary, terminal)
        add_model(path, CHAT_MODEL, chat.id, CHAT_PRICE)
        add_model(path, CLASSIFIER, trained.model.id, CLASSIFY_PRICE)
        with NodeProcess.start(path, log=folder / "node.log") as node:
            terminal.say(f"[bold] 6[/] the node verified and loaded both models: {node.url}")
            terminal.say("[bold] 7[/] paid calls, each with a receipt that was checked:")
            summary.purchases = asyncio.run(buy(path, node, CHAT_MODEL, CLASSIFIER, terminal))
            _settle(path, summary, terminal)
            _audit(path, node, summary, terminal)
            refusals = summary.refusals
            refusals["one flipped bit"] = flip_a_bit(
                workspace, trained.model.id, trained.folder, folder
            )
            refusals["a revoked model"] = asyncio.run(
                sell_revoked(path, workspace, trained.model.id, CLASSIFIER, node)
            )
            terminal.say("[bold]11[/] refused: a flipped bit, a revoked model")
    summary.seconds = time.monotonic() - started
    (folder / _REPORT).write_text(json.dumps(summary.to_json(), indent=2) + "\n")
    if not terminal.as_json:
        summary.show(terminal)
    return summary


def _clear(folder: Path) -> None:
    """Begin with an empty folder; never empty one that is not the demo's."""
    marker = folder / ".weightproof-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ConfigError(f"{folder} holds other things", hint="give --folder a new name")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    marker.touch()


def _prepare(target: Path, terminal: Terminal) -> Path:
    with terminal.steps_bar("preparing SmolLM2", SMOLLM2_STEPS) as advance:
        prepare_smollm2(target, advance)
    terminal.say(f"[bold] 2[/] {CHAT_MODEL} as bf16 safetensors in {target}")
    return target


def _attest(
    workspace: Workspace, models: Mapping[str, Registration], summary: Summary, terminal: Terminal
) -> None:
    attester = workspace.signer("attester")
    for name, model in models.items():
        # An attester stakes its name on a check it ran itself.
        with terminal.bytes_bar(f"verifying {name}", None) as advance:
            unattested(workspace).verify(model.id, progress=advance, keep_files=False).close()
        expires_at = workspace.chain.head().timestamp + _YEAR_S
        receipt = workspace.attestations.attest(attester, model.id, "integrity", 10_000, expires_at)
        summary.gas["attest"] = receipt.gas_used
    terminal.say(f"[bold] 5[/] {attester.address} verified and attested both models")


def _settle(path: Path, summary: Summary, terminal: Terminal) -> None:
    """Settle as the operator does, beside the running node."""
    office = Office.open(load(path))
    try:
        settled = office.settlement.tick()
        summary.settlement = settled.to_json()
        summary.gas["claim and settle"] = settled.gas_used
        terminal.say(f"[bold] 8[/] claimed {settled.claimed} and settled {settled.settled} units")
        anchored = office.settlement.anchor()
        summary.anchor = anchored.to_json()
        summary.gas["anchor"] = anchored.receipt.gas_used if anchored.receipt else 0
        size = anchored.signed.checkpoint.size
        terminal.say(f"[bold] 9[/] anchored the log's head: {size} entries")
    finally:
        office.close()


def _audit(path: Path, node: NodeProcess, summary: Summary, terminal: Terminal) -> None:
    shown = [_shown(purchase) for purchase in summary.purchases]
    summary.audit = run_audit(load(path), node.url, terminal, address=node.address, shown=shown)
    terminal.say("[bold]10[/] audited from outside:")
    if not terminal.as_json:
        show_checks(summary.audit, terminal, indent="   ")


def _shown(purchase: Purchase) -> Shown:
    """Disclose chat requests for replay; a classifier makes no tokens to compare."""
    answer = purchase.answer
    chat = answer.signed.receipt.payment.scheme != "exact"
    return Shown(answer.signed, answer.request if chat else None)
