"""Our engine against transformers' own continuous batching, behind one interface. JSON on stdout.

Both serve the same verified model in this process, greedy, with the same prompts; each has a copy
of the weights of its own. At each number of calls at a time the two take turns, and the order is
turned about in every round. `tokens_per_s` is the median of what all calls of a round made together
in a second, prompts computed included; `ratio` is ours over theirs, the median over rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from subject import register

from inference.config import ENGINES
from inference.demo.models import prepare_smollm2
from inference.engine.engines import open_generator
from inference.engine.facts import EngineFacts
from inference.engine.generator import Generator
from inference.engine.prompter import Prompter
from inference.engine.sampling import Sampling
from inference.engine.sequence import GenerationRequest
from inference.loader import load
from registry.chain.devnet import Devnet
from registry.hashing.parallel import processors

_TOPICS = ("the sea", "a mountain", "old trains", "bread", "the moon", "a garden", "rain", "chess")


def main(arguments: Sequence[str]) -> None:
    """Measure in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="a model folder; default: SmolLM2, prepared")
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 4, 16], help="at a time")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    root = Path(__file__).resolve().parent.parent
    folder = options.folder or prepare_smollm2(root / ".cache" / "models" / "smollm2")
    engines: dict[str, Generator] = {}
    with Devnet.start() as net, register(net, folder, "chat").verify() as verified:
        for kind in ENGINES:
            loaded = load(verified, device=options.device, threads=options.threads)
            engines[kind] = open_generator(kind, loaded, queue_limit=max(options.calls))
    asks = [f"Tell me about {topic}." for topic in _TOPICS * max(options.calls)]
    reader = Prompter(loaded)
    prompts = [reader.encode_chat([{"role": "user", "content": ask}]) for ask in asks]
    for engine in engines.values():
        _tokens_per_s(engine, prompts[:1], options.tokens)  # compiles what is compiled
    result = {
        "bench": "engine_choice",
        "machine": f"{processors()} x {platform.machine()}",
        "torch": torch.__version__,
        "model": folder.name,
        "tokens": options.tokens,
        "rounds": options.rounds,
        "engines": {kind: _named(engine.facts) for kind, engine in engines.items()},
        "calls": {
            n: _measure(engines, prompts[:n], options.tokens, options.rounds) for n in options.calls
        },
    }
    for engine in engines.values():
        engine.close()
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _measure(
    engines: dict[str, Generator], prompts: list[tuple[int, ...]], tokens: int, rounds: int
) -> dict[str, object]:
    rates: dict[str, list[float]] = {kind: [] for kind in engines}
    for number in range(rounds):
        for kind in list(engines)[:: 1 if number % 2 else -1]:
            rates[kind].append(_tokens_per_s(engines[kind], prompts, tokens))
    ours, theirs = (rates[kind] for kind in ENGINES)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return {
        "tokens_per_s": {kind: round(statistics.median(rate), 2) for kind, rate in rates.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def _tokens_per_s(engine: Generator, prompts: list[tuple[int, ...]], tokens: int) -> float:
    """Return how many tokens all calls made together in a second."""

    async def answer(prompt: tuple[int, ...]) -> int:
        id = engine.submit(GenerationRequest(prompt, Sampling(tokens)))
        return sum([len(delta.token_ids) async for delta in engine.stream(id)])

    async def all_at_once() -> int:
        return sum(await asyncio.gather(*map(answer, prompts)))

    begin = time.perf_counter()
    made = asyncio.run(all_at_once())
    return made / (time.perf_counter() - begin)


def _named(facts: EngineFacts) -> dict[str, str | int]:
    named = facts.to_json()
    return {key: named[key] for key in ("engine", "dtype", "device", "threads")}


if __name__ == "__main__":
    main(sys.argv[1:])
