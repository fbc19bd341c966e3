"""The long run: hundreds of deaths at random steps and moments. JSON on stdout, a bar on stderr.

A trial depends on the machine's timing as well, but its seed makes the same dice fall again:
`python -m tests.crash.torture --seed S --worlds 1` repeats the world that a failure names.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import Progress

from tests.crash.siege import STEPS, Siege, Trial, random_trial
from tests.crash.world import opened


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300, help="deaths in all")
    parser.add_argument("--per-world", type=int, default=50, help="deaths on one database")
    parser.add_argument("--seed", type=int, default=None, help="of the first world")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    began, trials, worlds = time.monotonic(), list[Trial](), list[dict[str, object]]()
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("killing", total=asked.kills)

        def told(trial: Trial) -> None:
            trials.append(trial)
            progress.update(bar, advance=1, description=f"killing: {trial.step}")
            for sentence in trial.wrong:
                progress.console.print(f"{trial.step}, {trial.nth}: {sentence}", markup=False)

        while len(trials) < asked.kills:
            number = min(asked.per_world, asked.kills - len(trials))
            wrong = _world(seed + len(worlds), number, told)
            worlds.append({"seed": seed + len(worlds), "deaths": number, "wrong at the end": wrong})
            for sentence in wrong:
                progress.console.print(f"world {worlds[-1]['seed']}: {sentence}", markup=False)
    print(json.dumps(_summary(trials, worlds, time.monotonic() - began), indent=1))
    return int(any(trial.wrong for trial in trials) or any(w["wrong at the end"] for w in worlds))


def _world(seed: int, deaths: int, told: object) -> list[str]:
    dice = random.Random(seed)
    with TemporaryDirectory() as folder, opened(Path(folder)) as world, Siege(world) as siege:
        for _ in range(deaths):
            told(random_trial(siege, dice))
        return siege.peace()


def _summary(
    trials: list[Trial], worlds: list[dict[str, object]], seconds: float
) -> dict[str, object]:
    outcomes: Counter[str] = Counter()
    for trial in trials:
        outcomes.update(trial.outcomes)
    return {
        "kills": len(trials),
        "at their step": sum(trial.reached for trial in trials),
        "steps": {step: sum(t.step == step for t in trials) for step in (*STEPS, "at any moment")},
        "calls": dict(outcomes),
        "wrong": [trial.to_json() for trial in trials if trial.wrong],
        "worlds": worlds,
        "seconds": round(seconds),
    }


if __name__ == "__main__":
    sys.exit(main())
