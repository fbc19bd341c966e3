"""An endpoint of the chain that shows somebody an older state of one thing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from inference.audit.chain_view import ChainView
from inference.audit_command import chain_view
from registry.errors import ChainDisputedError
from registry.workspace import Workspace
from tests.fakes.rpc_proxy import Json, rpc_proxy
from tests.liars.actor import Actor
from tests.liars.finding import SECOND, Found
from tests.liars.stage import Stage
from tests.registry.chain.rpc_server import pass_on


@contextmanager
def stale_view(stage: Stage, subject: bytes, block: int) -> Iterator[ChainView]:
    """Let an auditor ask an endpoint that answers about `subject` as of `block`, and Anvil."""
    honest = stage.devnet.rpc_url

    def bend(question: Json, answer: Json) -> Json:
        if question["method"] != "eth_call" or subject.hex() not in json.dumps(question):
            return answer
        older = question | {"params": [question["params"][0], hex(block)]}
        return dict(json.loads(pass_on(honest, older)))

    with rpc_proxy(honest) as proxy:
        proxy.bend = bend
        registry = stage.config.registry
        asked = replace(registry.chain, rpc_url=proxy.url, witnesses=(honest,))
        yield chain_view(Workspace.open(replace(registry, chain=asked)))


def disputed(actor: Actor, audit: Callable[[], Any]) -> Found:
    """Audit, and return which endpoints contradict."""
    try:
        report = audit()
    except ChainDisputedError as error:
        evidence = {"answers": [list(pair) for pair in error.evidence]}
        return Found(SECOND, "before any verdict", actor.calls, evidence, error.message)
    raise AssertionError(f"the auditor believed it: {report.to_json()}")
