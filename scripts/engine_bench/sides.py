"""The sides: what each of them is asked over, and how its calls are measured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from engine_bench.calls import Call, Round
from engine_bench.server_process import ServerProcess
from engine_bench.stream import Connection, Received, read_call
from engine_bench.wallet import Wallet
from inference.errors import UnavailableError

CHAT: Final = "/v1/chat/completions"
_IN_PROCESS: Final = "/in-process"
# After a pause a node first asks the chain again whether its model still stands.
_AWAKE_S: Final = 30
_AGAIN_S: Final = 0.5


class Side(Protocol):
    """Something that makes tokens, and the process in which it does."""

    @property
    def process(self) -> ServerProcess:
        """Return what is paused while others compute."""

    async def run(self, prompts: Sequence[Sequence[str]]) -> Round:
        """Run a closed loop: one worker for each list of texts, one call after the other."""

    async def wake(self, text: str) -> None:
        """Make one call that is not measured, and wait until one succeeds."""


@dataclass(frozen=True)
class HttpSide:
    """A server with OpenAI's chat completions. With `wallets`, worker N pays with the Nth.

    `extra` is what goes into each request beside the usual.
    """

    process: ServerProcess
    model: str
    max_tokens: int
    extra: Mapping[str, object] = field(default_factory=dict)
    wallets: Sequence[Wallet] = ()

    async def run(self, prompts: Sequence[Sequence[str]]) -> Round:
        """Run a closed loop over HTTP, streamed; what was received is read after its end."""
        connections = [await Connection.open(self.process.port) for _ in prompts]
        try:
            wallets: Sequence[Wallet | None] = self.wallets or [None] * len(prompts)
            workers = zip(connections, prompts, wallets, strict=False)
            done = await asyncio.gather(*(self._work(*worker) for worker in workers))
        finally:
            for connection in connections:
                connection.close()
        return Round(tuple(read_call(received) for answers in done for received in answers))

    async def wake(self, text: str) -> None:
        """Call until it answers. Raises `UnavailableError` with its last answer."""
        deadline = asyncio.get_running_loop().time() + _AWAKE_S
        while True:
            connection = await Connection.open(self.process.port)
            wallet = self.wallets[0] if self.wallets else None
            try:
                headers = wallet.headers() if wallet else {}
                received = await connection.post(CHAT, self.body(text), headers)
            finally:
                connection.close()
            if received.status == 200:
                if wallet:
                    wallet.book(received)
                return
            if asyncio.get_running_loop().time() > deadline:
                read_call(received)
            await asyncio.sleep(_AGAIN_S)

    def body(self, text: str) -> bytes:
        """Return a request."""
        request = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        return json.dumps(request).encode()

    async def _work(
        self, connection: Connection, texts: Sequence[str], wallet: Wallet | None
    ) -> list[Received]:
        answers = []
        for text in texts:
            headers = wallet.headers() if wallet else {}
            answers.append(await connection.post(CHAT, self.body(text), headers))
            if wallet:
                wallet.book(answers[-1])
        return answers


@dataclass(frozen=True)
class InProcessSide:
    """The engine of the unpaid node without HTTP. `exact` asks for the exact tier."""

    process: ServerProcess
    max_tokens: int
    exact: bool = False

    async def run(self, prompts: Sequence[Sequence[str]]) -> Round:
        """Have the loop run where the engine is; one request starts it and one answer ends it."""
        calls = await self._ask(prompts)
        return Round(tuple(Call(**{**call, "times": tuple(call["times"])}) for call in calls))

    async def wake(self, text: str) -> None:
        """Make one call."""
        await self._ask([[text]])

    async def _ask(self, prompts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        asked = {
            "prompts": prompts,
            "max_tokens": self.max_tokens,
            "exact": self.exact,
            # Each side is a payer of its own: none profits from prompts that another has read.
            "payer": "exact" if self.exact else "in process",
        }
        connection = await Connection.open(self.process.port)
        try:
            received = await connection.post(_IN_PROCESS, json.dumps(asked).encode(), {})
        finally:
            connection.close()
        _, body = received.split()
        if received.status != 200:
            raise UnavailableError(f"status {received.status}: {body[:300]!r}")
        calls: list[dict[str, Any]] = json.loads(body)
        return calls
