"""How commands speak: progress and errors on stderr, and with `--json` one object on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from registry.errors import WeightproofError

EXIT_CODES = """Exit codes: 0 done · 1 unexpected failure · 2 wrong settings, keys or arguments ·
3 verification refused · 4 chain unreachable or a transaction failed · 5 payment refused ·
6 the audit found a false statement."""


_PIPED_WIDTH = 160


class Terminal:
    """Prints for people, or one JSON object for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        if not self.out.is_terminal:
            # Piped output is read by programs and pasted into reports: ids must stay whole.
            self.out.width = _PIPED_WIDTH

    def say(self, text: str) -> None:
        """Tell a person what happens; silent with `--json`."""
        if not self.as_json:
            self.out.print(text)

    def result(self, value: Mapping[str, object], *, title: str = "") -> None:
        """Print the result: a two-column table, or the object itself with `--json`."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()
            return
        table = Table(title=title or None, show_header=False, box=None, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, item in value.items():
            table.add_row(key, item if isinstance(item, str) else json.dumps(item))
        self.out.print(table)

    @contextmanager
    def bytes_bar(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar over bytes; yields the function that advances it."""
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self.err, transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda count: bar.advance(task, count)

    @contextmanager
    def steps_bar(self, label: str, total: int | None) -> Iterator[Callable[[str], None]]:
        """Show a bar over steps; yields a function that takes the next step's name."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
        with Progress(*columns, TimeElapsedColumn(), console=self.err, transient=True) as bar:
            task = bar.add_task(label, total=total)

            def advance(name: str) -> None:
                bar.update(task, advance=1, description=f"{label}: {name}" if name else label)

            yield advance

    def fail(self, error: WeightproofError) -> NoReturn:
        """Say what went wrong and what to do, in one sentence on stderr, and leave."""
        hint = f" ({error.hint})" if error.hint else ""
        self.err.print(f"weightproof: {error.message}{hint}", markup=False, style="red")
        raise typer.Exit(error.exit_code)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn the project's errors into an exit code and one sentence."""
        try:
            yield
        except WeightproofError as error:
            self.fail(error)
