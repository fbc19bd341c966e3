"""What leaves a node, as a liar may change it: the answer of each request, whole."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class WireAnswer:
    """One answer: to which path, with which query, status, headers and body."""

    method: str
    path: str
    query: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def saying(self, value: Any) -> WireAnswer:
        """Return the answer with another JSON body."""
        return replace(self, body=json.dumps(value).encode())

    @property
    def settlement(self) -> Any:
        """The PAYMENT-RESPONSE header, None without one."""
        header = self.headers.get("payment-response")
        return header and json.loads(base64.b64decode(header))

    def settling(self, value: Any) -> WireAnswer:
        """Return the answer with another PAYMENT-RESPONSE header."""
        header = base64.b64encode(json.dumps(value).encode()).decode()
        return replace(self, headers={**self.headers, "payment-response": header})


class Wire:
    """An ASGI application before another: hands each answer to `change` before it leaves."""

    def __init__(self, app: Any, change: Callable[[WireAnswer], WireAnswer]) -> None:
        self._app = app
        self._change = change

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, headers, body = 500, {}, b""

        async def hear(message: Any) -> None:
            nonlocal status, headers, body
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {k.decode().lower(): v.decode() for k, v in message["headers"]}
            else:
                body += message.get("body", b"")

        await self._app(scope, receive, hear)
        query = scope["query_string"].decode()
        answer = self._change(
            WireAnswer(scope["method"], scope["path"], query, status, headers, body)
        )
        fields = {**answer.headers, "content-length": str(len(answer.body))}
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(k.encode(), v.encode()) for k, v in fields.items()],
            }
        )
        await send({"type": "http.response.body", "body": answer.body})
