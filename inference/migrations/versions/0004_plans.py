"""Plans: spending within periods; coupons, trials and subscriptions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

AMOUNT = sa.String(78)
WHOLE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add the tables of plans."""
    op.create_table(
        "spending",
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("since", WHOLE, nullable=False),
        sa.Column("until", WHOLE, nullable=False),
        sa.Column("spent", AMOUNT, nullable=False),
        sa.PrimaryKeyConstraint("payer", "since", "until"),
    )
    op.create_table(
        "price_offers",
        sa.Column("digest", sa.String(66), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("kept_at", WHOLE, nullable=False),
    )
    op.create_table(
        "allowances",
        sa.Column("id", sa.String(66), primary_key=True),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("payer", sa.String(42), nullable=False),
        sa.Column("unit", sa.String(6), nullable=False),
        sa.Column("quota", AMOUNT, nullable=False),
        sa.Column("used", AMOUNT, nullable=False),
        sa.Column("until", WHOLE, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
    )
    op.create_index("allowances_payer", "allowances", ["payer", "kind"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("allowances")
    op.drop_table("price_offers")
    op.drop_table("spending")
