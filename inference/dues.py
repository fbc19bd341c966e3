"""Since when channels have had something unclaimed: dust that is left too long is claimed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, insert, select

from inference.schema import dues as _TABLE


def unclaimed(tx: Connection, channel_ids: Collection[str], *, now: int) -> Mapping[str, int]:
    """Keep that these channels have something unclaimed at unix second `now`, and only these.

    Returns since when each has.
    """
    known: dict[str, int] = {row.channel_id: row.since for row in tx.execute(select(_TABLE))}
    for channel_id in known.keys() - set(channel_ids):
        tx.execute(delete(_TABLE).where(_TABLE.c.channel_id == channel_id))
    fresh = [{"channel_id": name, "since": now} for name in channel_ids if name not in known]
    if fresh:
        tx.execute(insert(_TABLE), fresh)
    return {name: known.get(name, now) for name in channel_ids}
