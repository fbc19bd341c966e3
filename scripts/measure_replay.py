"""How well the margin test tells a lying node from an honest one.

Calls are made with SmolLM2-135M-Instruct in every honest way there is here, and in every dishonest
way of `replay_measure.conditions`; each answer is then scored by the reference as an auditor's
replay does. Every piece of calls is written to the work folder, so that a measurement that was cut
off goes on where it was. `--report` makes no calls: of all that are there it writes the thresholds
that the auditor uses, the figures, and plot and table of the README.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from replay_measure.asks import SAMPLINGS, TOKENS
from replay_measure.conditions import CONDITIONS, Condition, Laboratory
from replay_measure.figures import CLIP, ONE_IN, OTHERS, honest_tokens, read, summary
from replay_measure.plot import plot, rows_of
from replay_measure.table import table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from subject import register

from inference.audit.margin_test import HALF, SINGLE, ModelThresholds, Thresholds
from inference.demo.models import prepare_smollm2
from registry.chain.devnet import Devnet
from registry.hashing.parallel import processors
from registry.hashing.resident_digest import resident_digest

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str]) -> None:
    """Make what calls are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".cache" / "replay")
    parser.add_argument("--only", nargs="+", help="conditions, by name; default: all")
    parser.add_argument("--report", action="store_true", help="write what follows from the calls")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if options.report:
        _report(options.work)
        return
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


def _report(work: Path) -> None:
    measured = read(work)
    source = prepare_smollm2(ROOT / ".cache" / "models" / "smollm2")
    with Devnet.start() as net:
        tensors = register(net, source, "chat").manifest.tensors
    weights = resident_digest({tensor.name: tensor.digest for tensor in tensors})
    fair = {claim: honest_tokens(measured, claim) for claim in (SINGLE, HALF)}
    others = {claim: honest_tokens(measured, claim, room=OTHERS) for claim in (SINGLE, HALF)}
    thresholds = Thresholds(
        clip=f"{CLIP:g}",
        one_in=ONE_IN,
        models=(ModelThresholds("SmolLM2-135M-Instruct", weights, **fair),),
        others=ModelThresholds("others", bytes(32), **others),
    )
    (ROOT / "inference" / "audit" / "thresholds.json").write_bytes(thresholds.encode() + b"\n")
    told = {
        "bench": "replay",
        "machine": f"{processors()} x {platform.machine()}",
        "torch": torch.__version__,
        "model": "SmolLM2-135M-Instruct",
        "tokens_at_most": TOKENS,
        "samplings": {how: {k: str(v) for k, v in said.items()} for how, said in SAMPLINGS.items()},
        **summary(measured),
    }
    figures = ROOT / "scripts" / "figures"
    (figures / "replay.json").write_text(json.dumps(told, indent=2) + "\n")
    (figures / "replay.svg").write_text(plot(rows_of(measured, fair)))
    sys.stdout.write(table(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
