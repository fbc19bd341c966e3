"""How commands speak: progress and errors on stderr, and with `--json` one object on stdout."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from registry.errors import WeightproofError

EXIT_CODES: Final = "\n".join(
    (
        "Exit codes:",
        "0  done",
        "1  unexpected failure",
        "2  wrong settings, keys or arguments",
        "3  verification refused",
        "4  chain or node unreachable, or a transaction failed",
        "5  payment refused",
        "6  a receipt, probe or proof holds a false statement",
        "21 to 28  an audit's check 1 to 8 failed, the first that did",
        "130  interrupted by Ctrl-C",
    )
)
_PIPED_WIDTH: Final = 160
# Characters that move the cursor, change colours or turn the direction of writing.
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def examples(*lines: str) -> str:
    """Return the end of a command's help: one line an example."""
    return "\n".join(("Examples:" if len(lines) > 1 else "Example:", *lines))


def plain(text: str) -> str:
    """Return text of others without what could take over a terminal: escapes are written out."""
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


class Terminal:
    """Prints for people, or one JSON object for programs."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = Console(highlight=False, soft_wrap=True, emoji=False)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        if not self.out.is_terminal:
            # Piped output is read by programs and pasted into reports: ids must stay whole.
            self.out.width = _PIPED_WIDTH

    def say(self, text: str) -> None:
        """Tell a person what happens, in rich's markup; silent with `--json`."""
        if not self.as_json:
            self.out.print(text)

    def write(self, text: str) -> None:
        """Show a piece of somebody else's text as it is, without a line's end."""
        if not self.as_json:
            self.out.print(plain(text), end="", markup=False)

    def result(self, value: Mapping[str, object], *, title: str = "") -> None:
        """Print the result: a two-column table, or the object itself with `--json`."""
        if self.as_json:
            # ASCII only: it arrives whole whatever the encoding, and no escape reaches a terminal.
            sys.stdout.write(json.dumps(value) + "\n")
            sys.stdout.flush()
            return
        table = Table(title=title or None, show_header=False, box=None, title_justify="left")
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, item in value.items():
            shown = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
            # Text, not markup: brackets in a file's name are part of the name.
            table.add_row(Text(plain(key)), Text(plain(shown)))
        self.out.print(table)

    @contextmanager
    def bytes_bar(self, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show a bar over bytes; yields the function that advances it."""
        with self._progress(BarColumn(), DownloadColumn()) as bar:
            task = bar.add_task(plain(label), total=total)
            yield lambda count: bar.advance(task, count)

    @contextmanager
    def steps_bar(self, label: str, total: int | None) -> Iterator[Callable[[str], None]]:
        """Show a bar over steps; yields a function that takes the next step's name."""
        with self._progress(BarColumn(), SpinnerColumn()) as bar:
            task = bar.add_task(label, total=total)

            def advance(name: str) -> None:
                shown = plain(f"{label}: {name}") if name else label
                bar.update(task, advance=1, description=shown)

            yield advance

    @contextmanager
    def counted_bar(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Show a bar over things of a known number, with rate and time left.

        Yields a function that takes how many are done of how many.
        """
        columns = BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn()
        with self._progress(*columns) as bar:
            task = bar.add_task(plain(label), total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def fail(self, error: WeightproofError) -> NoReturn:
        """Say what went wrong and what to do, in one sentence on stderr, and leave."""
        hint = f" ({error.hint})" if error.hint else ""
        text = plain(f"weightproof: {error.message}{hint}".replace("\n", " "))
        self.err.print(text, markup=False, style="red")
        raise typer.Exit(error.exit_code)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn our errors, and the operating system's, into an exit code and one sentence."""
        try:
            yield
        except WeightproofError as error:
            self.fail(error)
        except BrokenPipeError:
            raise  # whoever read us left; Typer ends without a word
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            hint = "check the path, its permissions and the disk"
            self.fail(WeightproofError(f"{where}{error.strerror or error}", hint=hint))

    def _progress(self, *columns: ProgressColumn) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            *columns,
            TimeElapsedColumn(),
            console=self.err,
            transient=True,
            # A bar is for eyes; in a log its empty lines would stand before the one sentence.
            disable=not self.err.is_terminal,
        )


class _RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        """Return the rate, once there is one."""
        return Text(
            "" if task.speed is None else f"{task.speed:,.0f}/s", style="progress.data.speed"
        )


def _shown(character: str) -> str:
    is_control = unicodedata.category(character) == "Cc" and character not in "\n\t"
    if not is_control and character not in _BIDI:
        return character
    return character.encode("unicode_escape").decode()
