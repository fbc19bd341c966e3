"""A small model on sale, with a template for tools, and one without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from inference.api.chat import ChatWork
from inference.api.chat_body import ChatRequest
from inference.api.completion_body import CompletionRequest
from inference.api.completions import CompletionWork
from inference.api.schemas import parse
from inference.catalog import CatalogEntry
from inference.engine.engine import TextEngine
from inference.engine.generator import Generator
from inference.loader import load
from inference.payments.pricing import Price
from registry.chain.connection import Chain
from registry.chain.deploy import Deployment
from registry.signing.signer import Signer
from tests.inference import tiny_models
from tests.inference.shelf import Shelf

PRICE = Price(100, 1_000_000, 2_000_000)
EXACT_PRICE = Price(100, 3_000_000, 6_000_000)


@pytest.fixture(scope="session")
def shelf(chain: Chain, deployment: Deployment, signers: list[Signer]) -> Shelf:
    return Shelf(chain, deployment, signers[1])


def _entry(shelf: Shelf, folder: Any, template: str) -> CatalogEntry:
    made = tiny_models.llama(folder, context=2048, template=template)
    with shelf.verified(made, task="chat") as verified:
        loaded = load(verified, device="cpu", threads=1)
    engine = TextEngine(loaded)
    return CatalogEntry(folder.name, verified, loaded, engine, PRICE, exact_price=EXACT_PRICE)


@pytest.fixture(scope="session")
def entry(
    shelf: Shelf, tmp_path_factory: pytest.TempPathFactory, torch: object
) -> Iterator[CatalogEntry]:
    made = _entry(shelf, tmp_path_factory.mktemp("tools") / "tiny", tiny_models.TOOL_TEMPLATE)
    yield made
    made.engine.close()


@pytest.fixture(scope="session")
def without_tools(
    shelf: Shelf, tmp_path_factory: pytest.TempPathFactory, torch: object
) -> Iterator[CatalogEntry]:
    made = _entry(shelf, tmp_path_factory.mktemp("plain") / "plain", tiny_models.TEMPLATE)
    yield made
    made.engine.close()


def chat(entry: CatalogEntry, text: str = "Hello", **more: Any) -> ChatWork:
    """Return the work of a small chat request."""
    body = {"model": entry.name, "messages": [{"role": "user", "content": text}], "seed": 7}
    ask = parse(ChatRequest, json.dumps({**body, "max_tokens": 24, **more}).encode())
    assert isinstance(entry.engine, Generator)
    return ChatWork(entry, entry.engine, ask)


def complete(entry: CatalogEntry, prompt: Any = "Once", **more: Any) -> CompletionWork:
    """Return the work of a small completion request."""
    body = {"model": entry.name, "prompt": prompt, "seed": 7, "max_tokens": 24, **more}
    ask = parse(CompletionRequest, json.dumps(body).encode())
    assert isinstance(entry.engine, Generator)
    return CompletionWork(entry, entry.engine, ask)
