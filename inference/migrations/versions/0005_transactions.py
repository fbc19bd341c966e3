"""What the node's key signed for the chain, and since when channels have something unclaimed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

AMOUNT = sa.String(78)
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "transactions",
        sa.Column("hash", sa.String(66), primary_key=True),
        sa.Column("sender", sa.String(42), nullable=False),
        sa.Column("nonce", WHOLE, nullable=False),
        sa.Column("doing", sa.String(64), nullable=False),
        sa.Column("tip", AMOUNT, nullable=False),
        sa.Column("most", AMOUNT, nullable=False),
        sa.Column("raw", sa.LargeBinary, nullable=False),
        sa.Column("sent_at", WHOLE, nullable=False),
        sa.Column("state", sa.String(7), nullable=False),
    )
    op.create_index("transactions_state", "transactions", ["state"])
    op.create_table(
        "dues",
        sa.Column("channel_id", sa.String(66), primary_key=True),
        sa.Column("since", WHOLE, nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    for table in ("dues", "transactions"):
        op.drop_table(table)
