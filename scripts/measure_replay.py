"""How well the margin test tells a lying node from an honest one. JSON on stdout.

Calls are made with SmolLM2-135M-Instruct in every honest way there is here, and in every dishonest
way of `replay_measure.conditions`; each answer is then scored by the reference as an auditor's
replay does. Every piece of calls is written to the work folder, so that a measurement that was cut
off goes on where it was. The summary draws thresholds, rates and areas under curves from all
calls that are there, and writes the plot of the README.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from replay_measure.conditions import CONDITIONS, Condition, Laboratory
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inference.demo.models import prepare_smollm2
from registry.chain.devnet import Devnet

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> None:
    """Make what calls are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "replay")
    parser.add_argument("--only", nargs="+", help="conditions, by name; default: all")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    wanted = [c for c in CONDITIONS if not options.only or c.name in options.only]
    _measure(wanted, options.work)


def _measure(wanted: list[Condition], work: Path) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar, Devnet.start() as net:
        task = bar.add_task("calls", total=sum(2 * c.calls for c in wanted))
        source = prepare_smollm2(ROOT / ".cache" / "models" / "smollm2")
        laboratory = Laboratory(source, work, net, lambda text: bar.update(task, description=text))
        for condition in wanted:
            file = work / condition.file
            done = len(file.read_text().splitlines()) if file.exists() else 0
            bar.advance(task, done)
            if done >= 2 * condition.calls:
                continue
            for piece in laboratory.calls(condition, done):
                with file.open("a") as out:
                    out.writelines(json.dumps(call.to_json()) + "\n" for call in piece)
                bar.update(task, advance=len(piece), description=condition.name)


if __name__ == "__main__":
    main(sys.argv[1:])
