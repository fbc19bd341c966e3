"""`weightproof top`: how a running node does, in a terminal, until q or Ctrl-C."""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import httpx
from rich.live import Live
from rich.table import Table
from rich.text import Text

from inference.errors import UnavailableError
from inference.metrics import label
from inference.remote import bounded, node_client
from inference.vitals import Row, Span, Vitals
from registry.terminal import Terminal, plain

# A node with a thousand models says less than this.
_MAX_BYTES: Final = 16 * 1024 * 1024
# Seconds over which rates and quantiles are taken in the live view.
_WINDOW_S: Final = 60.0
# Seconds between the two readings of a single table.
_ONCE_S: Final = 1.0
_COLUMNS: Final = (
    "model", "state", "out/s", "in/s", "run", "wait", "batch", "cache",
    "first p50/p95", "next p50/p95", "units/min", "calls",
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What a node said of itself: its metrics, health, and state and device of each model."""

    vitals: Vitals
    health: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]


def top(url: str, terminal: Terminal, *, once: bool, every_s: float) -> None:
    """Show a node until q or Ctrl-C; one table where nobody watches, or with `once` or JSON.

    Raises `UnavailableError` when the node does not answer, or not to us, at the beginning.
    """
    with node_client(url) as client:
        first = read(client)
        if once or terminal.as_json or not terminal.out.is_terminal:
            time.sleep(_ONCE_S)
            _print(url, (first, read(client)), terminal)
            return
        with keys() as pressed, Live(console=terminal.out, screen=True, auto_refresh=False) as live:
            _watch(client, first, pressed, every_s, lambda table: live.update(table, refresh=True))


def read(client: httpx.Client) -> Reading:
    """Ask a node how it does. Raises what `top` raises."""
    answer, body = bounded(client, "GET", "/metrics", limit=_MAX_BYTES)
    if answer.status_code == 403:
        raise UnavailableError(
            "the node tells its metrics to its own machine only",
            hint="run this there, or have its operator set node.metrics_public",
        )
    if answer.status_code != 200:
        raise UnavailableError(
            f"the node at {client.base_url} has no metrics (status {answer.status_code})",
            hint="is this a Weightproof node, and is node.metrics not false?",
        )
    vitals = Vitals.parse(body.decode(errors="replace"), time.monotonic())
    health = _object(client, "/healthz")
    listed = _object(client, "/v1/models").get("data")
    models: dict[str, Mapping[str, Any]] = {}
    for model in listed if isinstance(listed, list) else ():
        facts = model.get("weightproof") if isinstance(model, Mapping) else None
        if isinstance(facts, Mapping):
            models[label(str(model.get("id")))] = facts
    return Reading(vitals, health, models)


def rows(before: Reading, now: Reading) -> list[Row]:
    """Return a row for each model the node sells."""
    span = Span(before.vitals, now.vitals)
    return [span.row(model) for model in now.models]


def table(url: str, before: Reading, now: Reading, note: str = "") -> Table:
    """Return the rows as a table; `note` stands in its title."""
    health, text = now.health, plain(url)
    facts = [text, str(health.get("status")), f"up {_span(health.get('up_s'))}"]
    facts.append(f"log {health.get('log_size')}")
    title = Text(plain(" · ".join([*facts, note] if note else facts)))
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in _COLUMNS:
        shown.add_column(column, justify="left" if column in _COLUMNS[:2] else "right")
    for row in rows(before, now):
        shown.add_row(*(Text(plain(cell)) for cell in _cells(row, now.models[row.model])))
    return shown


def _watch(
    client: httpx.Client,
    first: Reading,
    pressed: Callable[[float], bool],
    every_s: float,
    show: Callable[[Table], None],
) -> None:
    """Draw anew until a key ends it; a node that is away meanwhile is waited for."""
    readings, note = deque([first]), ""
    try:
        while True:
            show(table(str(client.base_url), readings[0], readings[-1], note or "q ends"))
            if pressed(every_s):
                return
            try:
                readings.append(read(client))
                note = ""
            except UnavailableError as error:
                note = error.message
            while readings[-1].vitals.at - readings[0].vitals.at > _WINDOW_S:
                readings.popleft()
    except KeyboardInterrupt:
        return  # how one leaves a live view


@contextmanager
def keys() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits some seconds and says whether q was pressed meanwhile."""
    if not sys.stdin.isatty():
        yield _slept
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            typed = os.read(sys.stdin.fileno(), 64)
            if not typed or b"q" in typed.lower():
                return True
    return False


def _slept(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def _print(url: str, readings: Sequence[Reading], terminal: Terminal) -> None:
    before, now = readings
    if not terminal.as_json:
        terminal.out.print(table(url, before, now))
        return
    models = [
        {**asdict(row), "state": facts.get("status"), "device": facts.get("device")}
        for row in rows(before, now)
        for facts in [now.models[row.model]]
    ]
    health = {name: now.health.get(name) for name in ("status", "detail", "up_s", "log_size")}
    terminal.result({"node": url, **health, "models": models})


def _object(client: httpx.Client, path: str) -> Mapping[str, Any]:
    _, body = bounded(client, "GET", path, limit=_MAX_BYTES)
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnavailableError(
            f"{client.base_url}{path} is not an answer of a node of ours",
            hint="is the address right?",
        )
    return found


def _cells(row: Row, facts: Mapping[str, Any]) -> list[str]:
    return [
        row.model,
        str(facts.get("status")),
        f"{row.output_tokens_per_s:,.1f}",
        f"{row.input_tokens_per_s:,.1f}",
        str(row.running),
        str(row.waiting),
        "–" if row.mean_batch is None else f"{row.mean_batch:.1f}",
        "–" if row.cache is None else f"{row.cache:.0%}",
        f"{_time(row.ttft_p50_s)}/{_time(row.ttft_p95_s)}",
        f"{_time(row.inter_token_p50_s)}/{_time(row.inter_token_p95_s)}",
        f"{row.charged_per_min:,.0f}",
        str(sum(row.calls.values())),
    ]


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds:.1f}s" if seconds >= 1 else f"{seconds * 1000:.3g}ms"


def _span(seconds: object) -> str:
    if not isinstance(seconds, int):
        return "?"
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
