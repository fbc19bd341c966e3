"""Answers that are kept: a payer that lost one sends the same payment again and gets it.

A call that its payer named (x402's payment-identifier) has a row from its reservation on. When it
ends, the transaction that charges it writes into that row what is answered; a retry is told the
same bytes, PAYMENT-RESPONSE and receipt, and nothing else happens. While its reservation stands
the call is in progress. A row whose reservation ended without an answer counts for nothing: what
failed for the moment, or with the node, may be tried again under the same name. But where an
`exact` payment may have moved, only that payment may come again.

An answer is its payer's content. It is kept as long and as large as the settings say, and deleted
then; what is asked for after that is refused or corrected as any replay is, never served twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sqlalchemy import (
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from inference import schema
from inference.answers_config import AnswersConfig
from inference.call import Answer
from inference.errors import ConflictError, InProgressError, NodeError, RequestError
from inference.payments.identifier import Ticket
from inference.prepared import Prepared

_TABLE: Final = schema.answers
_OPEN: Final = schema.reservations
_SPENT: Final = schema.authorizations
# States of an `exact` payment whose call is under way, and of one that may have moved for nothing.
_WORKING: Final = ("reserved", "settling", "serving")
_OWED: Final = ("unknown", "paid")
_MINE: Final = (_TABLE.c.payer == bindparam("of"), _TABLE.c.id == bindparam("name"))
_HELD: Final = (*_MINE, _TABLE.c.reservation_id == bindparam("by"))
_TAKEN: Final = ("binding", "reservation_id", "created_at", "expires_at", "size")
_ANSWERED: Final = ("status", "media_type", "payment_response", "failure", "body", "size")


class _Row(NamedTuple):
    binding: bytes
    reservation_id: str
    expires_at: int
    status: int | None
    media_type: str
    payment_response: str
    failure: str | None
    body: bytes


_FIND: Final = Prepared(select(*(_TABLE.c[name] for name in _Row._fields)).where(*_MINE))
_ADD: Final = Prepared(
    insert(_TABLE).values({name: bindparam(name) for name in ("payer", "id", *_TAKEN)})
)
# A name whose call ended without an answer, for another call.
_TAKE: Final = (
    update(_TABLE)
    .where(*_HELD)
    .values(dict.fromkeys(("status", "failure", "body")))
    .values({name: bindparam(name) for name in _TAKEN})
)
_KEEP: Final = Prepared(
    update(_TABLE).where(*_HELD).values({name: bindparam(name) for name in _ANSWERED})
)


class RepeatedError(RequestError):
    """The error that a call was answered with, told again."""

    def __init__(self, status: int, code: str, message: str, param: str, hint: str) -> None:
        super().__init__(message, param=param, hint=hint)
        self.status = status
        self.code = code


class AnswerBook:
    """The kept answers of this node; every method works in the caller's transaction.

    `now` is in unix seconds.
    """

    def __init__(self, config: AnswersConfig) -> None:
        self.config: Final = config

    def find(self, tx: Connection, ticket: Ticket, *, now: int) -> Answer | None:
        """Return what a call was answered with; None when it is to be served.

        Raises `ConflictError` for a name that belongs to another call, `InProgressError`.
        """
        row = _row(tx, ticket.payer, ticket.id)
        return None if row is None else self._find(tx, row, ticket, now)

    def _find(self, tx: Connection, row: _Row, ticket: Ticket, now: int) -> Answer | None:
        if row.expires_at <= now:
            return None
        standing = _standing(tx, row)
        if standing == "ended":
            return None
        if bytes(row.binding) != ticket.binding:
            raise ConflictError(
                f"the payment identifier {ticket.id} names a call with another payment or request",
                hint="send the same payment with the same request to get its answer",
            )
        if standing == "working":
            raise InProgressError()
        return _answer(row) if standing == "kept" else None

    def of_payer(self, tx: Connection, payer: str, id: str, *, now: int) -> Answer | None:
        """Return the answer that a payer named, for whoever has shown to be that payer."""
        row = _row(tx, payer, id)
        if row is None or row.expires_at <= now or row.status is None:
            return None
        return _answer(row)

    def claim(self, tx: Connection, ticket: Ticket, reservation_id: str, *, now: int) -> None:
        """Take a name for a call, in the transaction that makes its reservation.

        Raises `InProgressError` when a copy of the call was faster: `find` knows of it then.
        """
        row = _row(tx, ticket.payer, ticket.id)
        if row is not None and self._find(tx, row, ticket, now) is not None:
            raise InProgressError()
        values = {
            "binding": ticket.binding,
            "reservation_id": reservation_id,
            "created_at": now,
            "expires_at": now + self.config.keep_s,
            "size": 0,
        }
        if row is not None:
            # None is changed where another process took it in this moment.
            if not tx.execute(_TAKE, values | _held(ticket, row.reservation_id)).rowcount:
                raise InProgressError()
            return
        try:
            _ADD.run(tx, values | {"payer": ticket.payer, "id": ticket.id})
        except IntegrityError as error:  # as above
            raise InProgressError() from error

    def keep(self, tx: Connection, ticket: Ticket, reservation_id: str, answer: Answer) -> None:
        """Write what a call is answered with; an answer too large to be kept is not."""
        if len(answer.body) > self.config.payer_bytes:
            return
        values = {
            "status": answer.status,
            "media_type": answer.media_type,
            "payment_response": answer.headers["PAYMENT-RESPONSE"],
            "failure": None if answer.failure is None else _told(answer.failure),
            "body": answer.body,
            "size": len(answer.body) + len(answer.headers["PAYMENT-RESPONSE"]),
        }
        _KEEP.run(tx, values | _held(ticket, reservation_id))

    def spent(self, tx: Connection, *, now: int) -> list[dict[str, str]]:
        """Return the rows to delete: expired, or beyond what is kept; oldest first.

        Each is what `delete` takes.
        """
        newest = (_TABLE.c.created_at.desc(), _TABLE.c.id)
        sums = select(
            _TABLE.c.payer,
            _TABLE.c.id,
            _TABLE.c.reservation_id,
            _TABLE.c.created_at,
            _TABLE.c.expires_at,
            _TABLE.c.status,
            func.sum(_TABLE.c.size).over(partition_by=_TABLE.c.payer, order_by=newest).label("own"),
            func.sum(_TABLE.c.size).over(order_by=newest).label("all"),
        ).subquery()
        large = or_(sums.c.own > self.config.payer_bytes, sums.c.all > self.config.total_bytes)
        beyond = or_(sums.c.expires_at <= now, and_(sums.c.status.is_not(None), large))
        columns = (
            sums.c.payer.label("of"),
            sums.c.id.label("name"),
            sums.c.reservation_id.label("by"),
        )
        query = select(*columns).where(beyond).order_by(sums.c.created_at)
        return [dict(row._mapping) for row in tx.execute(query)]

    def delete(self, tx: Connection, rows: Sequence[Mapping[str, str]]) -> None:
        """Delete rows, but those that belong to another call by now."""
        tx.execute(delete(_TABLE).where(*_HELD), rows)


def is_final(failure: NodeError) -> bool:
    """Return whether a failure is an answer; what may go well in a moment is tried again."""
    return failure.status not in (402, 429, 503)


def _row(tx: Connection, payer: str, id: str) -> _Row | None:
    row = _FIND.first(tx, {"of": payer, "name": id})
    return None if row is None else _Row(*row)


def _held(ticket: Ticket, reservation_id: str) -> dict[str, str]:
    return {"of": ticket.payer, "name": ticket.id, "by": reservation_id}


def _standing(tx: Connection, row: _Row) -> str:
    """Return kept, working, owed (its payment may have moved for nothing) or ended."""
    if row.status is not None:
        return "kept"
    id = row.reservation_id
    if tx.execute(select(_OPEN.c.id).where(_OPEN.c.id == id)).first() is not None:
        return "working"
    state = tx.execute(select(_SPENT.c.state).where(_SPENT.c.reservation_id == id)).scalar()
    return "working" if state in _WORKING else "owed" if state in _OWED else "ended"


def _told(failure: NodeError) -> str:
    param = failure.param if isinstance(failure, RequestError) else ""
    return json.dumps([failure.code, failure.message, param, failure.hint])


def _answer(row: _Row) -> Answer:
    status = row.status or 500  # never None here
    headers = {
        "PAYMENT-RESPONSE": str(row.payment_response),
        "Cache-Control": "no-store, private",
    }
    failure = None
    if row.failure is not None:
        failure = RepeatedError(status, *json.loads(row.failure))
    return Answer(status, bytes(row.body), headers, failure, row.media_type)
