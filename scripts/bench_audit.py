"""The audit's figures: the log and what checks it. JSON on stdout, a progress bar on stderr.

Each part is a file in `audit_bench`; `--only log,auditor` runs some. A part's `goals` say what was
to be reached and what was.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from registry.hashing.parallel import processors


def main(arguments: Sequence[str]) -> None:
    """Measure the parts one after the other and print their figures."""
    folder = Path(__file__).parent / "audit_bench"
    parts = sorted(path.stem for path in folder.glob("[!_]*.py"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(parts), help=f"of {', '.join(parts)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(parts):
        parser.error(f"no part {sorted(unknown)[0]}: there are {', '.join(parts)}")
    result: dict[str, Any] = {
        "bench": "audit",
        "machine": f"{processors()} x {platform.machine()}",
        "python": platform.python_version(),
    }
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        for name in chosen:
            task = bar.add_task(name, total=None)

            def progress(step: str, done: int, total: int, *, task: Any = task) -> None:
                bar.update(task, description=step, completed=done, total=total)

            part = importlib.import_module(f"audit_bench.{name}")
            result[name] = part.measure(quick=options.quick, progress=progress)
            bar.remove_task(task)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
