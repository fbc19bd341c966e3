"""A node without the money: the same verified model, engine, bytes and server, for nothing.

`POST /v1/chat/completions` answers as the node does. `POST /in-process` runs a closed loop on the
engine right here, on the server's own event loop, and returns what it measured: the engine's rate
without HTTP, from the very same engine. Run as `python -m engine_bench.unpaid_node`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from engine_bench.calls import Call
from inference.api.body import read_body
from inference.api.chat import prepare
from inference.api.chat_body import ChatRequest
from inference.api.problems import handle
from inference.api.schemas import parse
from inference.api.sse import DONE, EventStream
from inference.catalog import CatalogEntry
from inference.config import load as load_settings
from inference.engine.engine import TextEngine
from inference.engine.prompter import Prompter
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.errors import NodeError
from inference.loader import load
from inference.server import SWITCH_S
from inference.work import Work
from registry.workspace import Workspace


@dataclass(frozen=True)
class UnpaidNode:
    """One model, served to everybody. Bodies have at most `max_body_bytes`."""

    entry: CatalogEntry
    engine: TextEngine
    prompter: Prompter
    max_body_bytes: int

    @classmethod
    def open(cls, settings: Path) -> UnpaidNode:
        """Verify and load the first model of a settings file, as the node does."""
        config = load_settings(settings)
        model = config.models[0]
        verified = Workspace.open(config.registry).verify(model.model_id, folder=model.folder)
        loaded = load(verified, device=config.device, threads=config.threads)
        engine = TextEngine(loaded, queue_limit=config.max_queue)
        entry = CatalogEntry(model.name, verified, loaded, engine, model.price, model.folder)
        return cls(entry, engine, Prompter(loaded), config.max_body_bytes)

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/in-process", self.in_process, methods=["POST"]),
            ],
            exception_handlers={NodeError: handle},
        )

    async def models(self, _: Request) -> Response:
        """Say that it is ready."""
        return JSONResponse({"object": "list", "data": [{"id": self.entry.name}]})

    async def chat(self, request: Request) -> Response:
        """Answer as the node does, but for the payment and its receipt."""
        ask = parse(ChatRequest, await read_body(request, self.max_body_bytes))
        work = await prepare(self.entry, ask)
        if work.streams:
            return EventStream(_events(work), {})
        body = b"".join([piece async for piece in work.perform()])
        return Response(body, media_type="application/json")

    async def in_process(self, request: Request) -> Response:
        """Run {prompts, max_tokens, exact, payer} as a closed loop: one task for each list."""
        asked = json.loads(await read_body(request, self.max_body_bytes))
        sampling = Sampling(max_tokens=asked["max_tokens"], temperature=Decimal(0))

        async def work(texts: Sequence[str]) -> list[Call]:
            return [await self._call(text, sampling, asked) for text in texts]

        done = await asyncio.gather(*(work(texts) for texts in asked["prompts"]))
        return JSONResponse([call.to_json() for calls in done for call in calls])

    async def _call(self, text: str, sampling: Sampling, asked: dict[str, object]) -> Call:
        began = time.perf_counter()
        prompt = self.prompter.encode_chat([{"role": "user", "content": text}])
        id = self.engine.submit(
            GenerationRequest(
                prompt, sampling, payer=str(asked["payer"]), exact=asked["exact"] is True
            )
        )
        times: list[float] = []
        made = 0
        async for delta in self.engine.stream(id):
            made += len(delta.token_ids)
            if delta.text:
                times.append(time.perf_counter())
        return Call(began, time.perf_counter(), tuple(times), len(prompt), made)


async def _events(work: Work) -> AsyncGenerator[bytes, None]:
    async for piece in work.perform():
        yield piece
    yield DONE


def main(arguments: Sequence[str]) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    app = UnpaidNode.open(options.config).app()
    # As `weightproof serve` does it.
    sys.setswitchinterval(SWITCH_S)
    uvicorn.run(app, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1:])
