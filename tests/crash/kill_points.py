"""Where a node dies: at an exact SQL statement, HTTP message or step of the engine.

The node's code is not changed. What is wrapped are the borders that outlive any rewriting of it:
what goes to SQLite (PEP 249), what goes to the server (ASGI) and `TextEngine.step`. Transactions
to the chain are watched from outside, by `world.Watchman`.

The process kills itself with SIGKILL, so that not one instruction runs between the point and
its death; all else that it does at that moment (other calls, other threads) dies with it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PR_SET_PDEATHSIG = 1


@dataclass
class KillPoint:
    """Die at the `nth` time of `when` something at `layer`.

    ======  ==================================  ====================================
    layer   match                               when
    ======  ==================================  ====================================
    sql     words of one statement with values  at | before commit | after commit
    http    head | first | last | whole         before | after
    engine  (none)                              before
    chain   a function's selector, or any       before | after
    ======  ==================================  ====================================

    `before commit`: the statement ran and its transaction is about to be committed. `http` is
    about paid answers: the head of a success, a stream's first piece or its last, or the body of
    an answer in one piece, before or after its bytes were handed to the kernel.
    """

    layer: str
    match: tuple[str, ...] = ()
    when: str = "before"
    nth: int = 1

    def __post_init__(self) -> None:
        self.match = tuple(self.match)

    def reached(self) -> None:
        """Count; die when it is time."""
        self.nth -= 1
        if self.nth == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def install(point: KillPoint) -> None:
    """Wrap what the point is about, in this process."""
    {"sql": _in_sql, "http": _in_http, "engine": _in_engine, "chain": lambda _: None}[point.layer](
        point
    )


def _in_sql(point: KillPoint) -> None:
    class Connection(sqlite3.Connection):
        armed = False

        def heard(self, sql: str, values: object) -> None:
            text = f"{sql} {_shown(values)}"
            if sql.strip().upper().startswith("COMMIT"):
                self.committing()
            elif all(word in text for word in point.match):
                if point.when == "at":
                    point.reached()
                self.armed = True

        def committing(self) -> None:
            if self.armed and point.when == "before commit":
                point.reached()

        def committed(self) -> None:
            if self.armed and point.when == "after commit":
                point.reached()
            self.armed = False

        def cursor(self, factory: Any = None) -> sqlite3.Cursor:
            return super().cursor(Cursor)

        def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
            return self.cursor().execute(sql, values)

        def commit(self) -> None:
            self.committing()
            super().commit()
            self.committed()

        def rollback(self) -> None:
            super().rollback()
            self.armed = False

    class Cursor(sqlite3.Cursor):
        connection: Connection

        def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
            self.connection.heard(sql, values)
            done = super().execute(sql, values)
            if sql.strip().upper().startswith("COMMIT"):
                self.connection.committed()
            return done

        def executemany(self, sql: str, values: Any, /) -> sqlite3.Cursor:
            values = list(values)
            self.connection.heard(sql, values)
            return super().executemany(sql, values)

    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, **options | {"factory": Connection})

    sqlite3.connect = traced  # type: ignore[assignment]
    sqlite3.dbapi2.connect = traced  # type: ignore[assignment]


def _shown(values: Any) -> str:
    """Return a statement's values as text; bytes arrive as views of memory."""
    listed = values.values() if isinstance(values, dict) else values
    return " ".join(
        _shown(v)
        if isinstance(v, tuple | dict)
        else repr(bytes(v) if isinstance(v, memoryview) else v)
        for v in listed
    )


def _in_http(point: KillPoint) -> None:
    made = uvicorn.Config.__init__

    def init(self: uvicorn.Config, app: ASGIApp, *args: Any, **options: Any) -> None:
        made(self, _watched(app, point), *args, **options)

    uvicorn.Config.__init__ = init  # type: ignore[method-assign]


def _watched(app: ASGIApp, point: KillPoint) -> ASGIApp:
    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        paid, pieces = False, 0

        async def watch(message: Message) -> None:
            nonlocal paid, pieces
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                paid = message["status"] == 200 and b"payment-response" in names
                what = {"head"}
            else:
                pieces += 1
                last = not message.get("more_body", False)
                what = {"first"} if pieces == 1 and not last else set()
                what |= {"whole" if pieces == 1 else "last"} if last else set()
            hit = paid and not what.isdisjoint(point.match)
            if hit and point.when == "before":
                point.reached()
            await send(message)
            if hit and point.when == "after":
                point.reached()

        await app(scope, receive, watch if scope["type"] == "http" else send)

    return watched


def _in_engine(point: KillPoint) -> None:
    from inference.engine.engine import TextEngine

    step: Callable[[TextEngine], None] = TextEngine.step

    def watched(self: TextEngine) -> None:
        point.reached()
        step(self)

    TextEngine.step = watched  # type: ignore[method-assign]
