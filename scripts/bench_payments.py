"""Paid calls against the official x402 middleware for FastAPI, in one run. JSON on stdout.

All sides answer at once and always the same, so that what is measured is the payment. One server
process each, one devnet with the same contracts for all, one client process. Vouchers are signed
beforehand; every worker has a channel of its own and one call under way (closed loop). Sides take
turns round by round.

- `ours` is our node with its ledger on disk: each answer leaves after the transaction of its
  charge, signed receipt and log entry was synced, and carries two signatures.
- `official_pip` is the middleware of PyPI `x402` as pip installs it (signatures in pure Python),
  `official_coincurve` the same beside coincurve. Both keep their channels in memory, their default,
  and have their facilitator inside the process.
- `ours_unpaid` is our node's same route without the payment, `ours_402` the paid route asked
  without a payment, `official_402` the middleware asked so.

`server_load` and `client_load` are the parts of a turn in which a process kept a processor busy.
`added_p50_ms` is what paying adds to the median of one call at a time. Ratios are of medians.
`breakdown_us` says what the time of a paid call is spent on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
from payments_bench.load import Turn, run
from payments_bench.market import opened
from payments_bench.our_node import BREAKDOWN
from payments_bench.sides import OFFICIAL, OFFICIAL_PIP, OURS, PAID, Side, set_up
from rich.console import Console

from registry.hashing.parallel import processors

_CONCURRENCY: Final = (1, 8, 32)
# Calls of a turn: each takes about a second.
_CALLS: Final = {OURS: 1200, OFFICIAL: 300, OFFICIAL_PIP: 96, "official_402": 1200}
_UNPAID_CALLS: Final = 2400
_BREAKDOWN_CALLS: Final = 300
# Which part of that a turn is while nothing is measured, or quickly.
_SMALL: Final = 6
_ERR: Final = Console(stderr=True, highlight=False, soft_wrap=True)

_Measured = dict[str, dict[int, list[Turn]]]


def main(arguments: Sequence[str]) -> None:
    """Measure all sides in turns and print the figures, ratios and goals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a sixth of the calls, one round")
    parser.add_argument("--only", help="sides, by comma")
    parser.add_argument("--profile", type=Path, help="cProfile of our node's event loop")
    options = parser.parse_args(arguments)
    only = options.only.split(",") if options.only else []
    # Asked to end, it ends its servers first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        TemporaryDirectory() as made,
        opened(Path(made)) as market,
        set_up(market, Path(made), _say, only=only, profile=options.profile) as sides,
    ):
        for number, name in enumerate(PAID):
            if name in sides:
                _say(f"opening channels with {name}")
                opening = sides[name].open_channels(market, max(_CONCURRENCY), first=100 * number)
                asyncio.run(opening)
        chosen = [name for name in sides if not only or name in only]
        measured = asyncio.run(_measure({name: sides[name] for name in chosen}, options))
        steps = _breakdown(sides[OURS]) if OURS in chosen else {}
    result = {
        "bench": "payments",
        "machine": f"{processors()} x {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("x402", "fastapi", "uvicorn", "coincurve")},
        "rounds": options.rounds,
        "sides": {
            name: {str(c): _figures(turns) for c, turns in found.items()}
            for name, found in measured.items()
        },
        "goals": _goals(measured) if not options.only else {},
        "breakdown_us": steps,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


async def _measure(sides: Mapping[str, Side], options: argparse.Namespace) -> _Measured:
    measured: _Measured = {name: {c: [] for c in _CONCURRENCY} for name in sides}
    # The first round is not measured: connections, caches and just-made channels settle.
    for number in range((1 if options.quick else options.rounds) + 1):
        for concurrency in _CONCURRENCY:
            for name, side in sides.items():
                calls = _CALLS.get(name, _UNPAID_CALLS) // (
                    1 if number and not options.quick else _SMALL
                )
                requests = side.requests(concurrency, calls)
                turn = await run(side.process, requests, status=side.status)
                _say(f"round {number}, {concurrency} at once, {name}: {turn.figures()}")
                if number:
                    measured[name][concurrency].append(turn)
    return measured


def _breakdown(side: Side) -> dict[str, float]:
    """Return what each step of a paid call takes, one call at a time."""
    address = f"http://127.0.0.1:{side.process.port}{BREAKDOWN}"
    httpx.get(address)
    turn = asyncio.run(run(side.process, side.requests(1, _BREAKDOWN_CALLS)))
    steps: dict[str, float] = httpx.get(address).json()
    whole = round(statistics.mean(turn.calls) * 1e6, 1)
    rest = round(whole - sum(steps.values()), 1)
    return {"whole call": whole, **steps, "HTTP, routing, threads and all else": rest}


def _figures(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the medians of a side's figures over its turns."""
    found = [turn.figures() for turn in turns]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _goals(measured: _Measured) -> dict[str, object]:
    """Return what was to be reached, and what was; ratios at the best rate of each side."""
    rates = {
        name: max(_figures(turns)["per_s"] for turns in found.values())
        for name, found in measured.items()
    }
    single = {name: _figures(found[1])["p50_ms"] for name, found in measured.items()}
    added = single[OURS] - single["ours_unpaid"]
    return {
        "added_p50_ms": {"goal": "<= 1", "is": round(added, 3)},
        "over_official_pip": {"goal": ">= 20", "is": round(rates[OURS] / rates[OFFICIAL_PIP], 2)},
        "over_official_coincurve": {
            "goal": ">= 6",
            "is": round(rates[OURS] / rates[OFFICIAL], 2),
        },
        "over_own_unpaid": {"goal": ">= 0.5", "is": round(rates[OURS] / rates["ours_unpaid"], 2)},
        "unpaid_402_ms": {"goal": "<= 0.5", "is": single["ours_402"]},
    }


def _say(text: str) -> None:
    _ERR.print(text, style="dim")


if __name__ == "__main__":
    main(sys.argv[1:])
