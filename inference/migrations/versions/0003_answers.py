"""Answers are kept for retries, sign-ins are used once, an authorisation knows its request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    whole = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "answers",
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("binding", sa.LargeBinary, nullable=False),
        sa.Column("reservation_id", sa.String(32), nullable=False),
        sa.Column("created_at", whole, nullable=False),
        sa.Column("expires_at", whole, nullable=False),
        sa.Column("size", whole, nullable=False),
        sa.Column("status", sa.Integer, nullable=True),
        sa.Column("media_type", sa.String(64), nullable=True),
        sa.Column("payment_response", sa.Text, nullable=True),
        sa.Column("failure", sa.Text, nullable=True),
        sa.Column("body", sa.LargeBinary, nullable=True),
        sa.PrimaryKeyConstraint("payer", "id"),
    )
    op.create_index("answers_expires_at", "answers", ["expires_at"])
    op.create_table(
        "sign_ins",
        sa.Column("nonce", sa.String(32), primary_key=True),
        sa.Column("expires_at", whole, nullable=False),
    )
    op.create_index("sign_ins_expires_at", "sign_ins", ["expires_at"])
    op.add_column("authorizations", sa.Column("binding", sa.LargeBinary, nullable=True))
    op.add_column("authorizations", sa.Column("receipt_id", sa.String(66), nullable=True))
    op.drop_index("receipts_payer", "receipts")
    op.create_index("receipts_payer", "receipts", ["payer", "seq"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("receipts_payer", "receipts")
    op.create_index("receipts_payer", "receipts", ["payer"])
    op.drop_column("authorizations", "receipt_id")
    op.drop_column("authorizations", "binding")
    op.drop_table("sign_ins")
    op.drop_table("answers")
