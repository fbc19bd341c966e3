"""A whole market for tests: a devnet, two small registered models, and a node that sells them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from inference.demo.node_process import NodeProcess
from inference.demo.purchases import payer
from registry.chain.connection import Chain
from registry.chain.devnet import Devnet
from registry.config import read_file, registry_config
from registry.devnet_file import add_model, prepare_devnet
from registry.register import register_model
from registry.workspace import Workspace
from tests.inference import tiny_models

CHAT = "tiny-llama"
CLASSIFIER = "tiny-bert"
CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
CLASSIFY_PATH = "/v1/classify"
EXACT_PRICE = {"per_call": 200, "input_per_million": 3_000_000, "output_per_million": 6_000_000}
PRICE = {"per_call": 100, "input_per_million": 1_000_000, "output_per_million": 2_000_000}
_YEAR_S = 365 * 24 * 3600


@dataclass(frozen=True)
class Market:
    """Everything a test of the whole needs; `config` is the settings file."""

    devnet: Devnet
    config: Path
    workspace: Workspace
    node: NodeProcess
    models: dict[str, bytes]

    def payer(self, **options: Any) -> Any:
        return payer(self.config, self.node, **options)

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.node.url, timeout=60)

    def log_entries(self) -> list[dict[str, Any]]:
        with self.http() as client:
            size = client.get("/v1/log").json()["size"]
            page = client.get("/v1/log/entries", params={"start": 0, "end": size}).json()
        return [json.loads(entry) for entry in page["entries"]]


@contextmanager
def opened(
    folder: Path, settings: str = "", template: str = tiny_models.TEMPLATE
) -> Iterator[Market]:
    """Open a market in `folder`; `settings` are lines for the node's section.

    `template` is the chat model's.
    """
    with Devnet.start() as devnet:
        path, _ = prepare_devnet(Chain(devnet.rpc_url), folder, devnet.rpc_url)
        text = path.read_text().replace("port = 8402\n", f"port = 8402\n{settings}\n")
        path.write_text(text)
        workspace = Workspace.open(registry_config(path, read_file(path)))
        models = {
            CHAT: _register(
                workspace,
                tiny_models.llama(folder / "llama", context=2048, template=template),
                CHAT,
                "chat",
            ),
            CLASSIFIER: _register(
                workspace, tiny_models.bert_classifier(folder / "bert"), CLASSIFIER, "classify"
            ),
        }
        for name, model_id in models.items():
            add_model(path, name, model_id, PRICE)
            if name == CHAT:
                tier = "\n".join(f"{part} = {amount}" for part, amount in EXACT_PRICE.items())
                path.write_text(f"{path.read_text()}[models.price.exact]\n{tier}\n")
        with NodeProcess.start(path, log=folder / "node.log") as node:
            yield Market(devnet, path, workspace, node, models)


def _llama(folder: Path) -> Path:
    return tiny_models.llama(folder / "llama", context=2048)


def ask(text: str = "Hello", **more: Any) -> dict[str, Any]:
    """Return a small chat request."""
    return {
        "model": CHAT,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 8,
        "temperature": 0,
        **more,
    }


def header(response: httpx.Response, name: str) -> dict[str, Any]:
    """Decode one of x402's headers."""
    decoded: dict[str, Any] = json.loads(base64.b64decode(response.headers[name]))
    return decoded


def _register(workspace: Workspace, folder: Path, name: str, task: str) -> bytes:
    done = register_model(
        folder,
        name=name,
        task=task,
        parents=(),
        blocks=workspace.blocks,
        registry=workspace.records,
        signer=workspace.signer("publisher"),
    )
    expires_at = workspace.chain.head().timestamp + _YEAR_S
    workspace.attestations.attest(
        workspace.signer("attester"), done.id, "integrity", 10_000, expires_at
    )
    return done.id
