"""Channel accounts and calls in flight as database rows; no rule is decided here.

Statements are built once, and those of every call run on the driver itself: building one takes
longer than running it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from sqlalchemy import (
    BindParameter,
    Connection,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from inference import instances, schema
from inference.errors import NodeError
from inference.payments.account import Account, OnchainChannel, Open
from inference.payments.channel import ChannelConfig
from inference.payments.fields import Fields
from inference.prepared import Prepared, Row

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
_ACCOUNT: Final = select(
    *(_CHANNELS.c[name] for name in ("channel_id", "config", *_ACCOUNT_COLUMNS))
)
_ALL_ACCOUNTS: Final = Prepared(_ACCOUNT.order_by(_CHANNELS.c.channel_id))
_FIND_ACCOUNT: Final = _ACCOUNT.where(_CHANNELS.c.channel_id == _THIS)
_READ_ACCOUNT: Final = Prepared(_FIND_ACCOUNT)
_LOCK_ACCOUNT: Final = Prepared(_FIND_ACCOUNT.with_for_update())
_ADD_ACCOUNT: Final = Prepared(insert(_CHANNELS))
_CHANGE_ACCOUNT: Final = Prepared(
    update(_CHANNELS)
    .where(_CHANNELS.c.channel_id == _THIS)
    .values({name: bindparam(name) for name in _ACCOUNT_COLUMNS})
)
# What nearly every call changes: its voucher when it is reserved, its charge when it ends.
_VOUCHER: Final = ("signed_max", "voucher_signature")
_CHARGE: Final = ("charged", "credit")
_CHANGE_VOUCHER: Final = Prepared(
    update(_CHANNELS)
    .where(_CHANNELS.c.channel_id == _THIS)
    .values({name: bindparam(name) for name in _VOUCHER})
)
_CHANGE_CHARGE: Final = Prepared(
    update(_CHANNELS)
    .where(_CHANNELS.c.channel_id == _THIS)
    .values({name: bindparam(name) for name in _CHARGE})
)
_CALL: Final = select(
    *(_OPEN.c[n] for n in ("channel_id", "id", "kind", "amount", "least", "known", "told"))
).order_by(_OPEN.c.created_at, _OPEN.c.id)
_ALL_OPENED: Final = Prepared(_CALL)
_OPENED_BY: Final = Prepared(_CALL.where(_OPEN.c.instance == bindparam("whose")))
_FIND_OPENED: Final = Prepared(_CALL.where(_OPEN.c.channel_id == _THIS))
_REFUNDS: Final = Prepared(
    _CALL.where(_OPEN.c.kind == "refund", _OPEN.c.created_at < bindparam("before"))
)
_ADD_OPEN: Final = Prepared(insert(_OPEN))
_CHANGE_OPEN: Final = Prepared(
    update(_OPEN)
    .where(_OPEN.c.id == _THIS)
    .values({name: bindparam(name) for name in ("kind", "least", "told")})
)
_END_OPEN: Final = Prepared(delete(_OPEN).where(_OPEN.c.id == _THIS))


def account(tx: Connection, channel_id: str) -> Account | None:
    """Return a channel's account, or None."""
    row = _READ_ACCOUNT.first(tx, {"this": channel_id})
    return None if row is None else _account(row)


def locked(tx: Connection, channel_id: str) -> Account | None:
    """Return a channel's account, locked against other nodes until `tx` ends, or None.

    Whoever changes a channel or its calls in flight begins with this.
    """
    row = _LOCK_ACCOUNT.first(tx, {"this": channel_id})
    return None if row is None else _account(row)


def accounts(tx: Connection) -> Iterator[Account]:
    """Yield every channel's account."""
    yield from map(_account, _ALL_ACCOUNTS.rows(tx, {}))


def counts(tx: Connection) -> tuple[int, int]:
    """Return how many channels there are, and how many calls are in flight on them."""
    channels, in_flight = (tx.execute(query).scalar_one() for query in _COUNTS)
    return channels, in_flight


def opened(tx: Connection, channel_id: str) -> tuple[Open, ...]:
    """Return a channel's calls in flight, oldest first."""
    return tuple(Open(*row[1:]) for row in _FIND_OPENED.rows(tx, {"this": channel_id}))


def all_opened(tx: Connection) -> list[tuple[str, Open]]:
    """Return all calls in flight with their channels."""
    return [(row[0], Open(*row[1:])) for row in _ALL_OPENED.rows(tx, {})]


def opened_by(tx: Connection, instance: str) -> list[tuple[str, Open]]:
    """Return the calls in flight of one instance, with their channels."""
    return [(row[0], Open(*row[1:])) for row in _OPENED_BY.rows(tx, {"whose": instance})]


def refunds(tx: Connection, *, before: int) -> list[tuple[str, Open]]:
    """Return the refunds in flight since before a unix second, with their channels."""
    return [(row[0], Open(*row[1:])) for row in _REFUNDS.rows(tx, {"before": before})]


def store(tx: Connection, before: Account | None, after: Account, *, now: int = 0) -> None:
    """Write an account; `before` is what was read, None for a new channel."""
    if before is after or before == after:
        return
    if before is not None and before.chain == after.chain:
        same_voucher = before.signed_max == after.signed_max
        charge = {"charged": after.charged, "credit": after.credit}
        if same_voucher and before.signature == after.signature:
            _CHANGE_CHARGE.run(tx, {**charge, "this": after.channel_id})
            return
        if (before.charged, before.credit) == (after.charged, after.credit):
            voucher = {"signed_max": after.signed_max, "voucher_signature": after.signature}
            _CHANGE_VOUCHER.run(tx, {**voucher, "this": after.channel_id})
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
        _CHANGE_ACCOUNT.run(tx, values | {"this": after.channel_id})
        return
    named = {
        "channel_id": after.channel_id,
        "payer": after.config.payer,
        "receiver": after.config.receiver,
        "token": after.config.token,
        "config": json.dumps(after.config.to_json()),
        "created_at": now,
    }
    _ADD_ACCOUNT.run(tx, values | named)


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
        "instance": instances.of(tx),
    }
    _ADD_OPEN.run(tx, values)


def change(tx: Connection, call: Open) -> None:
    """Write that a call became a stream."""
    values = {"this": call.id, "kind": call.kind, "least": call.least, "told": call.told}
    _CHANGE_OPEN.run(tx, values)


def end(tx: Connection, call_id: str) -> None:
    """Remove a call in flight."""
    _END_OPEN.run(tx, {"this": call_id})


@lru_cache(maxsize=4096)
def _config(text: str) -> ChannelConfig:
    return ChannelConfig.parse(Fields(json.loads(text), "config", NodeError))


def _account(row: Row) -> Account:
    channel_id, config, charged, credit, signed_max, signature, *chain = row
    return Account(
        channel_id=channel_id,
        config=_config(config),
        charged=charged,
        credit=credit,
        signed_max=signed_max,
        signature=bytes(signature),
        chain=OnchainChannel(*chain),
    )
