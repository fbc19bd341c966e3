"""Several nodes on one database: who serves from it, and whose each call in flight is.

What was in flight before belongs to the instance without a name, which lives no longer.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# SQLite's INTEGER has 64 bits, PostgreSQL's 32: too few for blocks and, from 2038, for seconds.
WIDENED = {
    "channels": ("withdraw_requested_at", "mirrored_block", "mirrored_at", "created_at"),
    "reservations": ("created_at",),
    "authorizations": ("created_at",),
    "receipts": ("seq", "created_at"),
    "log_entries": ("seq",),
    "log_nodes": ("level", "position"),
    "checkpoints": ("size",),
}


def upgrade() -> None:
    """Apply."""
    whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    instances = op.create_table(
        "instances",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("started_at", whole, nullable=False),
        sa.Column("ended_at", whole, nullable=False),
        sa.Column("mark", whole, nullable=False),
    )
    op.bulk_insert(instances, [{"id": "", "started_at": 0, "ended_at": 0, "mark": 0}])
    op.create_index("instances_ended", "instances", ["ended_at"])
    for table in ("reservations", "authorizations"):
        column = sa.Column("instance", sa.String(32), nullable=False, server_default="")
        op.add_column(table, column)
    _resize(sa.BigInteger())


def downgrade() -> None:
    """Undo."""
    _resize(sa.Integer())
    for table in ("reservations", "authorizations"):
        op.drop_column(table, "instance")
    op.drop_table("instances")


def _resize(type_: sa.types.TypeEngine[int]) -> None:
    if op.get_context().dialect.name == "sqlite":
        return
    for table, columns in WIDENED.items():
        for column in columns:
            op.alter_column(table, column, type_=type_)
