"""Channel accounts and calls in flight as database rows; no rule is decided here.

Statements are built once: building one takes longer than running it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from inference import schema
from inference.errors import NodeError
from inference.payments.account import Account, OnchainChannel, Open
from inference.payments.channel import ChannelConfig
from inference.payments.fields import Fields

_CHANNELS: Final = schema.channels
_OPEN: Final = schema.reservations
# Names of parameters must differ from the columns a statement sets.
_THIS: Final[BindParameter[str]] = bindparam("this")
_ACCOUNT_COLUMNS: Final = (
    "charged",
    "credit",
    "signed_max",
    "voucher_signature",
    "balance",
    "total_claimed",
    "withdraw_amount",
    "withdraw_requested_at",
    "refund_nonce",
    "mirrored_block",
    "mirrored_at",
)

_COUNTS: Final = (
    select(func.count()).select_from(_CHANNELS),
    select(func.count()).select_from(_OPEN),
)
_ALL_ACCOUNTS: Final = select(_CHANNELS).order_by(_CHANNELS.c.channel_id)
_FIND_ACCOUNT: Final = select(_CHANNELS).where(_CHANNELS.c.channel_id == _THIS).with_for_update()
_ADD_ACCOUNT: Final = insert(_CHANNELS)
_CHANGE_ACCOUNT: Final = (
    update(_CHANNELS)
    .where(_CHANNELS.c.channel_id == _THIS)
    .values({name: bindparam(name) for name in _ACCOUNT_COLUMNS})
)
_ALL_OPENED: Final = select(_OPEN).order_by(_OPEN.c.created_at, _OPEN.c.id)
_FIND_OPENED: Final = _ALL_OPENED.where(_OPEN.c.channel_id == _THIS)
_REFUNDS: Final = _ALL_OPENED.where(
    _OPEN.c.kind == "refund", _OPEN.c.created_at < bindparam("before")
)
_ADD_OPEN: Final = insert(_OPEN)
_CHANGE_OPEN: Final = (
    update(_OPEN)
    .where(_OPEN.c.id == _THIS)
    .values({name: bindparam(name) for name in ("kind", "least", "told")})
)
_END_OPEN: Final = delete(_OPEN).where(_OPEN.c.id == _THIS)


def account(tx: Connection, channel_id: str) -> Account | None:
    """Return a channel's account, locked against other writers, or None."""
    row = tx.execute(_FIND_ACCOUNT, {"this": channel_id}).first()
    return None if row is None else _account(row)


def accounts(tx: Connection) -> Iterator[Account]:
    """Yield every channel's account."""
    yield from map(_account, tx.execute(_ALL_ACCOUNTS))


def counts(tx: Connection) -> tuple[int, int]:
    """Return how many channels there are, and how many calls are in flight on them."""
    channels, in_flight = (tx.execute(query).scalar_one() for query in _COUNTS)
    return channels, in_flight


def opened(tx: Connection, channel_id: str) -> tuple[Open, ...]:
    """Return a channel's calls in flight, oldest first."""
    return tuple(_open(row) for row in tx.execute(_FIND_OPENED, {"this": channel_id}))


def all_opened(tx: Connection) -> list[tuple[str, Open]]:
    """Return all calls in flight with their channels."""
    return [(row.channel_id, _open(row)) for row in tx.execute(_ALL_OPENED)]


def refunds(tx: Connection, *, before: int) -> list[tuple[str, Open]]:
    """Return the refunds in flight since before a unix second, with their channels."""
    rows = tx.execute(_REFUNDS, {"before": before})
    return [(row.channel_id, _open(row)) for row in rows]


def store(tx: Connection, before: Account | None, after: Account, *, now: int = 0) -> None:
    """Write an account; `before` is what was read, None for a new channel."""
    if before == after:
        return
    values: dict[str, object] = {
        "charged": after.charged,
        "credit": after.credit,
        "signed_max": after.signed_max,
        "voucher_signature": after.signature,
        "balance": after.chain.balance,
        "total_claimed": after.chain.total_claimed,
        "withdraw_amount": after.chain.withdraw_amount,
        "withdraw_requested_at": after.chain.withdraw_requested_at,
        "refund_nonce": after.chain.refund_nonce,
        "mirrored_block": after.chain.block,
        "mirrored_at": after.chain.read_at,
    }
    if before is not None:
        tx.execute(_CHANGE_ACCOUNT, values | {"this": after.channel_id})
        return
    named = {
        "channel_id": after.channel_id,
        "payer": after.config.payer,
        "receiver": after.config.receiver,
        "token": after.config.token,
        "config": json.dumps(after.config.to_json()),
        "created_at": now,
    }
    tx.execute(_ADD_ACCOUNT, values | named)


def add(tx: Connection, channel_id: str, call: Open, *, now: int) -> None:
    """Write a call in flight."""
    values = {
        "id": call.id,
        "channel_id": channel_id,
        "kind": call.kind,
        "amount": call.amount,
        "least": call.least,
        "known": call.known,
        "told": call.told,
        "created_at": now,
    }
    tx.execute(_ADD_OPEN, values)


def change(tx: Connection, call: Open) -> None:
    """Write that a call became a stream."""
    values = {"this": call.id, "kind": call.kind, "least": call.least, "told": call.told}
    tx.execute(_CHANGE_OPEN, values)


def end(tx: Connection, call_id: str) -> None:
    """Remove a call in flight."""
    tx.execute(_END_OPEN, {"this": call_id})


@lru_cache(maxsize=4096)
def _config(text: str) -> ChannelConfig:
    return ChannelConfig.parse(Fields(json.loads(text), "config", NodeError))


def _account(row: Row[tuple[object, ...]]) -> Account:
    return Account(
        channel_id=row.channel_id,
        config=_config(row.config),
        charged=row.charged,
        credit=row.credit,
        signed_max=row.signed_max,
        signature=bytes(row.voucher_signature),
        chain=OnchainChannel(
            balance=row.balance,
            total_claimed=row.total_claimed,
            withdraw_amount=row.withdraw_amount,
            withdraw_requested_at=row.withdraw_requested_at,
            refund_nonce=row.refund_nonce,
            block=row.mirrored_block,
            read_at=row.mirrored_at,
        ),
    )


def _open(row: Row[tuple[object, ...]]) -> Open:
    return Open(row.id, row.kind, row.amount, row.least, row.known, row.told)
