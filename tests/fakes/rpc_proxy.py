"""A real HTTP endpoint in front of Anvil that can lie, lag and go dark, and notes what it is asked.

What is not bent is Anvil's own answer, byte for byte in meaning: the rules stay the real ones.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.registry.chain.rpc_server import pass_on, rpc_server

Json = dict[str, Any]
# Gets the question and Anvil's answer, returns the answer that is given.
Bend = Callable[[Json, Json], Json]


def _honest(question: Json, answer: Json) -> Json:
    return answer


@dataclass
class RpcProxy:
    """One endpoint. `behind` is how many blocks its head lags; `dark` means HTTP 503."""

    target: str
    url: str = ""
    dark: bool = False
    behind: int = 0
    bend: Bend = _honest
    asked: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Be honest again."""
        self.dark, self.behind, self.bend = False, 0, _honest

    def answer(self, handler: BaseHTTPRequestHandler, question: Json) -> None:
        self.asked.append(question["method"])
        if self.dark:
            handler.send_error(503)
            return
        reply(handler, self.bend(question, self._ask(question)))

    def _ask(self, question: Json) -> Json:
        if self.behind and question["method"] == "eth_getBlockByNumber":
            newest = self._number("latest") - self.behind
            which = question["params"][0]
            number = newest if which == "latest" else which
            if which in ("safe", "finalized"):
                number = max(0, self._number(which) - self.behind)
            number = int(number, 16) if isinstance(number, str) else number
            if number > newest:
                return {"jsonrpc": "2.0", "id": question["id"], "result": None}
            question = question | {"params": [hex(number), question["params"][1]]}
        return dict(json.loads(pass_on(self.target, question)))

    def _number(self, which: str) -> int:
        question = {
            "jsonrpc": "2.0",
            "id": 0,
            "method": "eth_getBlockByNumber",
            "params": [which, False],
        }
        return int(json.loads(pass_on(self.target, question))["result"]["number"], 16)


def reply(handler: BaseHTTPRequestHandler, answer: Json) -> None:
    """Write an answer."""
    data = json.dumps(answer).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def rpc_proxy(target: str) -> Iterator[RpcProxy]:
    """Serve a proxy of the endpoint `target`."""
    proxy = RpcProxy(target)
    with rpc_server(proxy.answer) as proxy.url:
        yield proxy


def other_result(method: str, change: Callable[[Any], Any], data: str = "") -> Bend:
    """Return a bend: results of `method`, of questions with `data` in them, are changed."""

    def bend(question: Json, answer: Json) -> Json:
        if question["method"] != method or data not in json.dumps(question):
            return answer
        return answer | {"result": change(answer.get("result"))}

    return bend


def refusing(method: str, error: Json, data: str = "") -> Bend:
    """Return a bend: `method` is answered with an error."""

    def bend(question: Json, answer: Json) -> Json:
        if question["method"] != method or data not in json.dumps(question):
            return answer
        return {"jsonrpc": "2.0", "id": question["id"], "error": error}

    return bend
