"""Instances: the processes that have the database open, and whose each call in flight is.

A call in flight carries the instance that serves it. An instance whose process is gone is ended
once, by whichever lives: its calls are ended with it, in one transaction, and its row stays for a
day, so that a process that was only cut off finds out that it was ended.
"""

from __future__ import annotations

import time
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from inference.prepared import Prepared
from inference.schema import instances as _TABLE

_INFO: Final = "instance"
_KEPT_S: Final = 24 * 3600
# Read every few seconds by each node.
_OTHERS: Final = Prepared(
    select(_TABLE.c.id).where(_TABLE.c.ended_at == 0, _TABLE.c.id != bindparam("own"))
)


def enter(tx: Connection, instance: str) -> None:
    """Write a new instance down; what `tx`'s connection writes from here on is its work."""
    values = {"id": instance, "started_at": int(time.time()), "ended_at": 0, "mark": 0}
    tx.execute(insert(_TABLE).values(values))
    bind(tx, instance)


def bind(tx: Connection, instance: str) -> None:
    """Say whose work this connection writes."""
    tx.info[_INFO] = instance


def of(tx: Connection) -> str:
    """Return whose work a connection writes."""
    return str(tx.info[_INFO])


def others(tx: Connection, own: str) -> list[str]:
    """Return the instances that nobody has ended yet, except `own`."""
    return [row[0] for row in _OTHERS.rows(tx, {"own": own})]


def end(tx: Connection, instance: str) -> bool:
    """Write down that an instance ended; False where somebody did before."""
    now = int(time.time())
    tx.execute(delete(_TABLE).where(_TABLE.c.ended_at.between(1, now - _KEPT_S)))
    mine = (_TABLE.c.id == instance, _TABLE.c.ended_at == 0)
    return tx.execute(update(_TABLE).where(*mine).values(ended_at=now)).rowcount == 1
