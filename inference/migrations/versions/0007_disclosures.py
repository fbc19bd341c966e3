"""Calls that are kept for auditors, and those that were refused to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "disclosures",
        sa.Column("receipt_id", sa.String(66), primary_key=True),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("output_ids", sa.LargeBinary, nullable=False),
        sa.Column("size", WHOLE, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("expires_at", WHOLE, nullable=False),
    )
    op.create_index("disclosures_expires_at", "disclosures", ["expires_at"])
    op.create_table(
        "refusals",
        sa.Column("receipt_id", sa.String(66), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Undo."""
    for table in ("refusals", "disclosures"):
        op.drop_table(table)
