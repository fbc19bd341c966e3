"""Starts nodes in a fraction of a second: imports everything once, then forks for each start.

What runs is `weightproof serve` itself, in a process of its own that SIGKILL ends like any other;
only Python's and torch's import, many seconds on a busy machine, is not repeated for each death.

Reads one JSON order a line from stdin: `{config, port, errors, kill}`. Answers three
lines for each: `{"pid"}`, then `{"ready"}` (what the command printed, empty if it died before),
then, once it is dead, `{"status"}` as waitpid gives it.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

from tests.crash import kill_points

# All that serving imports late, so that no child has to.
_LATE = (
    "inference.__main__",
    "inference.cli",
    "inference.server",
    "inference.node",
    "inference.api.app",
    "uvicorn",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "inference.engine.engine",
    "transformers",
)


def main() -> None:
    kill_points.die_with_parent()
    for name in _LATE:
        importlib.import_module(name)
    # What is here now is for ever: a collector that visits it would copy every page of it.
    gc.collect()
    gc.freeze()
    _say({"imported": True})
    for line in sys.stdin:
        _raise(json.loads(line))


def _raise(order: dict[str, Any]) -> None:
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        _become_a_node(order, told)
    os.close(told)
    _say({"pid": pid})
    with os.fdopen(heard) as answer:
        # Its dying closes the pipe, whoever killed it.
        _say({"ready": answer.readline()})
    _, status = os.waitpid(pid, 0)
    _say({"status": status})


def _become_a_node(order: dict[str, Any], told: int) -> None:
    errors = os.open(order["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(told, 1)
    os.dup2(errors, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # A test that is interrupted interrupts its nodes by closing the nursery, not by Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kill_points.die_with_parent()
    if order.get("kill"):
        kill_points.install(kill_points.KillPoint(**order["kill"]))
    sys.argv = ["weightproof", "serve", "--json", "--port", str(order["port"])]
    sys.argv += ["--config", order["config"]]
    importlib.import_module("inference.__main__").main()
    os._exit(0)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
