"""Embeddings over HTTP: our encoder against a one-at-a-time loop over transformers. Prints JSON.

Servers of the same few lines (Starlette, which FastAPI is made of; base64 in the answer), each in a
process of its own, take the same texts from the same small client:

- `naive` tokenises one text, runs transformers' MiniLM on it, takes the mean over its tokens and
  normalises it, one request after another. It is measured with one thread and with all of them,
  and the faster of the two is what ours is compared with.
- `ours` is the verified model behind `Embedder`: what waits is computed together.

Rounds alternate between all sides. `texts_per_s` are medians, `cpu_ms_per_text` what a server's
process computed for each text, which other work on the machine changes less; `ours_N_over_naive` is
the ratio of medians at N requests at a time, the loop one at a time. The goal is 5 at 32. Payments
are left out on both sides: this is about computing. How long the texts are decides: a long text
keeps both cores busy by itself, and then nothing is gained by another beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from subject import register
from transformers import AutoModel, AutoTokenizer

from inference.demo.models import prepare_minilm
from inference.engine.embedder import Embedder
from inference.loader import LoadedModel, load
from inference.server import SWITCH_S
from registry.chain.devnet import Devnet
from registry.hashing.parallel import processors

Embed = Callable[[str], Awaitable[bytes]]
_WORDS = (
    *("the", "model", "reads", "a", "text", "and", "answers", "with", "numbers", "that", "say"),
    *("what", "it", "means", "to", "other", "texts", "near", "which", "payment", "receipt"),
    *("proves", "weights", "were", "verified", "before", "they", "computed", "today"),
)
_CONCURRENCY = (1, 8, 32)


def main(arguments: Sequence[str]) -> None:
    """Measure, alternating between the sides, and print the medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--words", type=int, nargs=2, default=(3, 12), help="of a text, from and to"
    )
    parser.add_argument("--requests", type=int, default=256, help="of one side in one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=["naive", "ours"], help="be one of the servers")
    parser.add_argument("--threads", type=int, default=processors())
    parser.add_argument(
        "--naive", type=int, nargs="+", default=sorted({1, processors()}), help="its threads"
    )
    options = parser.parse_args(arguments)
    if options.serve:
        _serve(options.serve, options.threads)
        return
    source = random.Random(3)  # texts, no secrets
    texts = [
        " ".join(source.choices(_WORDS, k=source.randint(*options.words)))
        for _ in range(options.requests)
    ]
    with ExitStack() as stack:
        naive = {n: _server(stack, "naive", n) for n in options.naive}
        ours = _server(stack, "ours", options.threads)
        sides = {f"naive_{n}_threads_at_1": Side(*server, 1) for n, server in naive.items()}
        sides |= {f"ours_at_{n}": Side(*ours, n) for n in _CONCURRENCY}
        speeds, costs = asyncio.run(_measure(sides, texts, options.rounds))
    best = max(speed for name, speed in speeds.items() if name.startswith("naive"))
    result = {
        "bench": "encoders",
        "machine": f"{processors()} x {platform.machine()}",
        "torch": torch.__version__,
        "threads": options.threads,
        "words": list(options.words),
        "requests": options.requests,
        "rounds": options.rounds,
        "texts_per_s": speeds,
        "cpu_ms_per_text": costs,
        **{f"ours_{n}_over_naive": round(speeds[f"ours_at_{n}"] / best, 2) for n in _CONCURRENCY},
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


@dataclass(frozen=True)
class Side:
    """A server's process and port, and how many requests it is sent at a time."""

    process: int
    port: int
    concurrency: int

    def cpu_s(self) -> float:
        """Return how long the server's process has computed, in seconds."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


async def _measure(
    sides: dict[str, Side], texts: list[str], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return texts per second, and milliseconds of processors per text: medians of the rounds."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            begin, before = time.perf_counter(), side.cpu_s()
            await _ask_all(side.port, side.concurrency, texts)
            if number:  # the first is for warming up
                speeds[name].append(len(texts) / (time.perf_counter() - begin))
                costs[name].append(1000 * (side.cpu_s() - before) / len(texts))
    return _medians(speeds), _medians(costs)


def _medians(found: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


async def _ask_all(port: int, concurrency: int, texts: list[str]) -> None:
    left = iter(texts)

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for text in left:
            await _ask(reader, writer, text)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(concurrency)))


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str) -> None:
    """Send one request on an open connection and read its answer: as little work as can be."""
    body = json.dumps({"model": "minilm", "input": text}).encode()
    writer.write(
        b"POST /v1/embeddings HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"a server answered {head[:60]!r}")
    length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
    await reader.readexactly(int(length))


def _server(stack: ExitStack, side: str, threads: int) -> tuple[int, int]:
    """Start a server in a process that ends with `stack`; return the process and its port."""
    command = [sys.executable, __file__, "--serve", side, "--threads", str(threads)]
    process = stack.enter_context(
        subprocess.Popen(
            command,
            # Its end tells the server that this process is gone, however that came.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    stack.callback(process.terminate)
    line = process.stdout.readline() if process.stdout else ""
    if not line.strip().isdigit():
        raise SystemExit(f"the server {side} did not start")
    return process.pid, int(line)


def _serve(side: str, threads: int) -> None:
    root = Path(__file__).resolve().parent.parent
    folder = prepare_minilm(root / ".cache" / "models" / "minilm")
    if side == "naive":
        embed = _naive(folder, threads)
    else:
        # As `weightproof serve` does it.
        sys.setswitchinterval(SWITCH_S)
        embed = _ours(folder, threads)

    async def route(request: Request) -> Response:
        text = (await request.json())["input"]
        vector = base64.b64encode(await embed(text)).decode("ascii")
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        answer = json.dumps({"object": "list", "data": data, "model": "minilm"})
        return Response(answer, media_type="application/json")

    app = Starlette(routes=[Route("/v1/embeddings", route, methods=["POST"])])
    asyncio.run(_run(app))


async def _run(app: Starlette) -> None:
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.should_exit = True
    await serving


def _naive(folder: Path, threads: int) -> Embed:
    torch.set_num_threads(threads)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder)

    async def embed(text: str) -> bytes:
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt")
            states = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"][..., None]
            mean = (states * mask).sum(1) / mask.sum(1)
            vector: bytes = torch.nn.functional.normalize(mean, dim=1)[0].numpy().tobytes()
        return vector

    return embed


def _ours(folder: Path, threads: int) -> Embed:
    embedder = Embedder(_loaded(folder, threads))

    async def embed(text: str) -> bytes:
        encoded = await embedder.read([text])
        vector: bytes = (await embedder.embed(encoded))[0].astype("<f4").tobytes()
        return vector

    return embed


def _loaded(folder: Path, threads: int) -> LoadedModel:
    """Register the model on a chain of its own, verify it and load it."""
    with Devnet.start() as net, register(net, folder, "embed").verify() as verified:
        return load(verified, device="cpu", threads=threads)


if __name__ == "__main__":
    main(sys.argv[1:])
